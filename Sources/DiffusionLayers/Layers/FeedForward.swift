public import TensorCore

/// The feed-forward part of a transformer block with a tanh-GELU (diffusers' `FeedForward`, `gelu-
/// approximate`).
public struct FeedForward: Sendable {
  let projection: Linear
  let output: Linear

  /// Reads `net.0.proj` and `net.2`.
  public init(_ weights: Weights, _ dim: Int, inner: Int) throws(WeightsError) {
    projection = try Linear(weights["net"][0]["proj"], dim, inner)
    output = try Linear(weights["net"][2], inner, dim)
  }

  public func callAsFunction(_ x: Tensor, _ run: RunContext) -> Tensor {
    output(projection(x, run, activation: .geluTanh), run)
  }

  /// The result times `gate`, added to `residual`.
  public func callAsFunction(_ x: Tensor, onto residual: Tensor, gate: Tensor, _ run: RunContext) -> Tensor {
    output(projection(x, run, activation: .geluTanh), onto: residual, gate: gate, run)
  }
}
