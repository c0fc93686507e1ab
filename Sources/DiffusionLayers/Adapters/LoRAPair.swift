public import TensorCore

/// One adapter's low-rank update of one linear layer: `y += strength * scale * up(down(x))`.
///
/// The strength is no part of it: it belongs to a run, one number per adapter and frame.
public struct LoRAPair: Sendable {
  /// Which adapter of the model this is, in the order they were given; selects the strength.
  public var adapterIndex: Int
  /// A, `[rank, in]`.
  public let down: Tensor
  /// B, `[out, rank]`.
  public let up: Tensor
  /// alpha / rank, or what the file's alpha rule gives instead.
  public let scale: Float

  public init(adapterIndex: Int, down: Tensor, up: Tensor, scale: Float) {
    self.adapterIndex = adapterIndex
    self.down = down
    self.up = up
    self.scale = scale
  }

  /// The rank of the update.
  public var rank: Int { down.shape.first ?? 0 }
}
