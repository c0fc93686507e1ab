public import TensorCore

/// A linear layer `y = x Wᵀ + b`, plus the updates of the adapters that target it.
///
/// Adapters are evaluated unmerged, `y += s * scale * B(Ax)`, with the strength `s` of the run: one value per
/// adapter and latent frame, so an animated strength costs nothing and needs no reload.
public struct Linear: Sendable {
  let weight: Weight
  let bias: Tensor?
  let adapters: [LayerUpdate]

  /// - Parameters:
  ///   - weights: the cursor at this layer; reads `weight` `[out, in]` and `bias` `[out]` where the file has one.
  public init(_ weights: Weights, _ inputs: Int, _ outputs: Int, bias: Bool = true) throws(WeightsError) {
    weight = try weights.weight("weight", shape: [outputs, inputs])
    self.bias = bias ? try weights.tensor("bias", shape: [outputs]) : nil
    adapters = weights.adapters
  }

  /// A convolution whose stride is its kernel is a linear map of patches: reads `weight` `[out, …extents]`, where
  /// the extents multiply to the width of the input, and `bias` `[out]`.
  public init(patches weights: Weights, _ extents: [Int], _ outputs: Int) throws(WeightsError) {
    weight = try weights.weight("weight", shape: [outputs] + extents)
      .reshaped([outputs, extents.reduce(1, *)])
    bias = try weights.tensor("bias", shape: [outputs])
    adapters = weights.adapters
  }

  /// `x` is `[…, in]`, the result `[…, out]`.
  public func callAsFunction(_ x: Tensor, _ run: RunContext, activation: Activation = .identity) -> Tensor {
    guard !adapters.isEmpty else {
      return Tensor.linear(x, weight: weight, bias: bias, activation: activation)
    }
    if let change = change(for: x, run) {
      return Tensor.linear(x, weight: weight, bias: bias, change: change).applying(activation)
    }
    var result = Tensor.linear(x, weight: weight, bias: bias)
    for update in adapters { result = update.add(to: consume result, linear: x, run) }
    return result.applying(activation)
  }

  /// `residual + gate * y` for the layer's output `y`, or `residual + y`: `residual` `[B, L, out]`, `gate` `[B, 1, out]`.
  public func callAsFunction(_ x: Tensor, onto residual: Tensor, gate: Tensor? = nil, _ run: RunContext)
    -> Tensor
  {
    if adapters.isEmpty {
      return Tensor.linear(x, weight: weight, bias: bias, residual: residual, gate: gate)
    }
    if let change = change(for: x, run) {
      return Tensor.linear(
        x, weight: weight, bias: bias, change: change, residual: residual, gate: gate)
    }
    let result = self(x, run)
    return gate.map { Tensor.gatedAdd(residual, result, gate: $0) } ?? residual + result
  }

  /// The adapters' change where it is one low-rank pair, else nil.
  private func change(for x: Tensor, _ run: RunContext) -> LowRankChange? {
    guard adapters.count == 1, let pair = adapters[0].pair(for: x, run) else { return nil }
    return LowRankChange(down: pair.down, up: pair.up, scale: pair.scale)
  }
}
