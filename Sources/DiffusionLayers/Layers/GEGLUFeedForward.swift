public import TensorCore

/// The feed-forward part of a transformer block with a gated GELU (diffusers' `FeedForward`, `geglu`).
public struct GEGLUFeedForward: Sendable {
  let projection: Linear
  let output: Linear

  /// Reads `net.0.proj`, from `dim` to twice `4 * dim`, and `net.2`.
  public init(_ weights: Weights, _ dim: Int) throws(WeightsError) {
    projection = try Linear(weights["net"][0]["proj"], dim, 8 * dim)
    output = try Linear(weights["net"][2], 4 * dim, dim)
  }

  /// The result for tokens `x` `[B, L, D]`, added to `residual`.
  public func callAsFunction(_ x: Tensor, onto residual: Tensor, _ run: RunContext) -> Tensor {
    guard projection.adapters.isEmpty, output.adapters.isEmpty else {
      return output(projection(x, run).geglu(), onto: residual, run)
    }
    return Tensor.gatedFeedForward(
      x, projection: (projection.weight, projection.bias), output: (output.weight, output.bias),
      residual: residual)
  }
}
