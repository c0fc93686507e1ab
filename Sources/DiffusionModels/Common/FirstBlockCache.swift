package import TensorCore

/// Leaves out all blocks but the first in denoising steps whose first block does nearly what it did before
/// (first-block caching, after TeaCache and ParaAttention's `first_block_cache`; an approximation).
///
/// The first block of a step always runs. Where what it adds to the tokens is close to what it added in the last
/// step that was computed in full, the other blocks are taken to add what they added then. One cache serves the
/// denoising of one clip; both prompts of guidance are entries of one batch, each with a residual of its own, and
/// a step is left out only where it may be for every entry.
public struct FirstBlockCache: Sendable {
  /// The largest mean relative change of the first block's residual that counts as none; 0 computes every step.
  public let threshold: Float
  /// Steps in which only the first block ran.
  public private(set) var reused = 0
  /// What the first block and all others added in the last step that was computed in full, `[B, L, D]` each.
  private var last: (first: Tensor, others: Tensor)?

  /// - Parameter threshold: 0 is off.
  public init(threshold: Float = 0) {
    self.threshold = threshold
  }

  /// Runs `blocks` blocks on tokens `x` `[B, L, D]`, or the first one and the memory of the others.
  package mutating func run(
    _ x: Tensor, blocks: Int, block: (_ index: Int, _ x: Tensor) throws(Cancelled) -> Tensor
  ) throws(Cancelled) -> Tensor {
    guard blocks > 1 else { return blocks == 1 ? try block(0, x) : x }
    return try run(x) { x throws(Cancelled) in
      try block(0, x)
    } others: { y throws(Cancelled) in
      var y = y
      for index in 1..<blocks { y = try block(index, y) }
      return y
    }
  }

  /// Runs `first` on tokens `x` `[B, L, D]`, then `others` on its result or the memory of them.
  package mutating func run(
    _ x: Tensor, first: (_ x: Tensor) throws(Cancelled) -> Tensor,
    others: (_ y: Tensor) throws(Cancelled) -> Tensor
  ) throws(Cancelled) -> Tensor {
    let entered = try first(x)
    guard threshold > 0 else { return try others(entered) }
    let change = entered - x
    if let last, last.first.shape == change.shape,
      change.relativeChange(from: last.first).allSatisfy({ $0 <= threshold })
    {
      reused += 1
      return entered + last.others
    }
    let y = try others(entered)
    last = (change, y - entered)
    return y
  }
}
