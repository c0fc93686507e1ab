public import TensorCore

/// A linear layer `y = x Wᵀ + b`, plus the low-rank pairs of the adapters that target it.
///
/// Adapters are evaluated unmerged, `y += s * scale * B(Ax)`, with the strength `s` of the run: one value per
/// adapter and latent frame, so an animated strength costs nothing and needs no reload (methods 0.1).
public struct Linear: Sendable {
  let weight: Weight
  let bias: Tensor?
  let adapters: [LoRAPair]

  /// - Parameters:
  ///   - weights: the cursor at this layer; reads `weight` `[out, in]` and `bias` `[out]` where the file has one.
  public init(_ weights: Weights, _ inputs: Int, _ outputs: Int, bias: Bool = true) throws(WeightsError) {
    weight = try weights.weight("weight", shape: [outputs, inputs])
    self.bias = bias ? try weights.tensor("bias", shape: [outputs]) : nil
    adapters = weights.adapters
  }

  /// `x` is `[…, in]`, the result `[…, out]`.
  public func callAsFunction(_ x: Tensor, _ run: RunContext, activation: Activation = .identity) -> Tensor {
    guard !adapters.isEmpty else {
      return Tensor.linear(x, weight: weight, bias: bias, activation: activation)
    }
    var result = Tensor.linear(x, weight: weight, bias: bias)
    for pair in adapters {
      result = add(pair, to: result, x, run)
    }
    return switch activation {
    case .identity: result
    case .relu: result.relu()
    case .silu: result.silu()
    case .geluTanh: result.geluTanh()
    }
  }

  private func add(_ pair: LoRAPair, to result: Tensor, _ x: Tensor, _ run: RunContext) -> Tensor {
    guard case .frames(let perFrame) = run.axis, let frames = run.animatedStrength(of: pair.adapterIndex)
    else {
      let factor = run.meanStrength(of: pair.adapterIndex) * pair.scale
      if factor == 0 { return result }
      return result.adding(
        Tensor.linear(Tensor.linear(x, weight: pair.down), weight: pair.up), scaledBy: factor)
    }
    // [B, L, r], scaled per token by the strength of its latent frame before the up projection.
    let hidden = Tensor.linear(x, weight: pair.down)
    let perToken = frames.flatMap { [Float](repeating: $0 * pair.scale, count: perFrame) }
    precondition(
      perToken.count == hidden.shape[1], "\(perToken.count) strengths for \(hidden.shape[1]) tokens")
    let scaled = hidden * Tensor(perToken, shape: [1, perToken.count, 1])
    return result + Tensor.linear(scaled, weight: pair.up)
  }
}
