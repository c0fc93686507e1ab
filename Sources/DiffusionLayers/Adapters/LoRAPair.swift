public import TensorCore

/// A low-rank change of a weight: `scale * up · down`.
///
/// The strength is no part of it: it belongs to a run, one number per adapter and frame.
public struct LoRAPair: Sendable {
  /// A, `[rank, in]`.
  public let down: Tensor
  /// B, `[out, rank]`.
  public let up: Tensor
  /// alpha / rank, or what the file's alpha rule gives instead.
  public let scale: Float

  public init(down: Tensor, up: Tensor, scale: Float) {
    self.down = down
    self.up = up
    self.scale = scale
  }

  /// The rank of the update.
  public var rank: Int { down.shape.first ?? 0 }
}
