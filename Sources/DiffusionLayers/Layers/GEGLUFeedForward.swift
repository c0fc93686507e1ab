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
    guard projection.adapters.isEmpty, output.adapters.isEmpty else { return adapted(x, onto: residual, run) }
    return Tensor.gatedFeedForward(
      x, projection: (projection.weight, projection.bias), output: (output.weight, output.bias),
      residual: residual)
  }

  /// The same with adapters: some frames at a time, so that the inner values, eight times as wide as the tokens, take little
  /// memory here too.
  private func adapted(_ x: Tensor, onto residual: Tensor, _ run: RunContext) -> Tensor {
    func inOnePiece(_ x: Tensor, _ residual: Tensor, _ run: RunContext) -> Tensor {
      output(projection(x, run).geglu(), onto: residual, run)
    }
    guard case .frames(let perFrame) = run.axis, perFrame > 0, !x.isRecorded, !residual.isRecorded,
      x.shape[0] * x.shape[1] > Self.tokensPerPiece
    else { return inOnePiece(x, residual, run) }
    let frames = x.shape[1] / perFrame
    let step = max(1, Self.tokensPerPiece / perFrame)
    let clips = (0..<x.shape[0]).map { clip in
      let parts = stride(from: 0, to: frames, by: step).map { first in
        let range = first..<min(frames, first + step)
        let part = { (tensor: Tensor) in
          tensor.narrow(0, from: clip, length: 1)
            .narrow(1, from: first * perFrame, length: range.count * perFrame).contiguous()
        }
        return inOnePiece(part(x), part(residual), run.narrowed(to: range))
      }
      return Tensor.concatenated(parts, axis: 1)
    }
    return clips.count == 1 ? clips[0] : Tensor.concatenated(clips, axis: 0)
  }

  /// About as many as pass a feed-forward without adapters together.
  private static let tokensPerPiece = 1536
}
