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
    guard blocks > 0 else { return x }
    var y = try block(0, x)
    guard threshold > 0, blocks > 1 else {
      for index in 1..<max(1, blocks) { y = try block(index, y) }
      return y
    }
    let (entered, first) = (y, y - x)
    if let last, last.first.shape == first.shape,
      first.relativeChange(from: last.first).allSatisfy({ $0 <= threshold })
    {
      reused += 1
      return entered + last.others
    }
    for index in 1..<blocks { y = try block(index, y) }
    last = (first, y - entered)
    return y
  }
}
