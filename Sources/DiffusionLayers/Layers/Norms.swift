public import TensorCore

/// Layer normalisation over the last dimension, with the affine part where the checkpoint has one.
public struct LayerNorm: Sendable {
  let weight: Tensor?
  let bias: Tensor?
  let eps: Float
  let adapters: [LayerUpdate]

  /// Without weights: the plain normalisation.
  public init(eps: Float) {
    weight = nil
    bias = nil
    adapters = []
    self.eps = eps
  }

  /// Reads `weight` and `bias` `[dim]`.
  public init(_ weights: Weights, _ dim: Int, eps: Float) throws(WeightsError) {
    weight = try weights.tensor("weight", shape: [dim])
    bias = try weights.tensor("bias", shape: [dim])
    adapters = weights.adapters
    self.eps = eps
  }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    Tensor.layerNorm(x, weight: weight, bias: bias, eps: eps)
  }

  /// With the adapters' changes of weight and bias.
  public func callAsFunction(_ x: Tensor, _ run: RunContext) -> Tensor {
    adapters.reduce(self(x)) { result, update in
      update.add(to: result, run) { Tensor.layerNorm(x, weight: $0, eps: eps) }
    }
  }

  /// Of frames `[B, F, L, D]`, with `positions` `[F, D]` added to the result.
  public func callAsFunction(_ x: Tensor, positions: Tensor, _ run: RunContext) -> Tensor {
    guard let weight, let bias else {
      return self(x, run) + positions.reshaped([1, positions.shape[0], 1, positions.shape[1]])
    }
    let result = Tensor.layerNorm(
      x, weight: weight, biases: positions + bias.reshaped([1, bias.count]), eps: eps)
    let tokens = [x.shape[0], x.shape[1] * x.shape[2], x.shape[3]]
    guard !adapters.isEmpty else { return result }
    return adapters.reduce(result.reshaped(tokens)) { result, update in
      update.add(to: result, run) { Tensor.layerNorm(x.reshaped(tokens), weight: $0, eps: eps) }
    }.reshaped(x.shape)
  }

  /// `norm(x) * (1 + scale) + shift` with one row `[B, 1, D]` each per batch entry.
  public func callAsFunction(_ x: Tensor, scale: Tensor, shift: Tensor) -> Tensor {
    Tensor.layerNormModulated(x, scale: scale, shift: shift, eps: eps)
  }
}

/// Root-mean-square normalisation over the last dimension.
public struct RMSNorm: Sendable {
  let weight: Tensor
  let eps: Float
  let adapters: [LayerUpdate]

  /// Reads `weight` `[dim]`.
  public init(_ weights: Weights, _ dim: Int, eps: Float) throws(WeightsError) {
    weight = try weights.tensor("weight", shape: [dim])
    adapters = weights.adapters
    self.eps = eps
  }

  public func callAsFunction(_ x: Tensor) -> Tensor {
    Tensor.rmsNorm(x, weight: weight, eps: eps)
  }

  /// With the adapters' changes of the weight.
  public func callAsFunction(_ x: Tensor, _ run: RunContext) -> Tensor {
    adapters.reduce(self(x)) { result, update in
      update.add(to: result, run) { Tensor.rmsNorm(x, weight: $0, eps: eps) }
    }
  }
}

extension RMSNorm {
  /// Whether adapters change the norm.
  package var isAdapted: Bool { !adapters.isEmpty }

  /// The norm of tokens `[B, L, H * D]` as heads `[B, L, H, D]`, turned by `rope` where given, with the adapters' changes
  /// of the weight.
  public func callAsFunction(_ x: Tensor, heads: Int, rope: RotaryTable?, _ run: RunContext) -> Tensor {
    guard adapters.isEmpty else {
      let split = self(x, run).reshaped([x.shape[0], x.shape[1], heads, x.shape[2] / heads])
      return rope.map { $0(split) } ?? split
    }
    return Tensor.rmsNormRotary(
      x, weight: weight, eps: eps, heads: heads, cosine: rope?.cosine, sine: rope?.sine)
  }
}

/// Group normalisation of pictures `[N, H, W, C]`.
public struct GroupNorm: Sendable {
  let weight: Tensor
  let bias: Tensor
  let groups: Int
  let eps: Float

  /// Reads `weight` and `bias` `[channels]`.
  public init(_ weights: Weights, groups: Int, _ channels: Int, eps: Float) throws(WeightsError) {
    weight = try weights.tensor("weight", shape: [channels])
    bias = try weights.tensor("bias", shape: [channels])
    self.groups = groups
    self.eps = eps
  }

  /// - Parameter offset: rows `[M, C]`, added first, one for every `N / M` pictures.
  public func callAsFunction(
    _ x: Tensor, activation: Activation = .identity, adding offset: Tensor? = nil
  ) -> Tensor {
    Tensor.groupNorm(
      x, groups: groups, weight: weight, bias: bias, eps: eps, activation: activation, adding: offset)
  }
}
