public import TensorCore

/// Squares of pixels as channels of one place, and back: torch's `pixel_unshuffle` and `pixel_shuffle`, with the channels
/// last. For models that work on pixels without an autoencoder.
public enum PixelPatches {
  /// A picture `[1, H, W, C]` as `[1, H / side, W / side, C * side * side]`.
  public static func folded(_ picture: Tensor, side: Int) -> Tensor {
    guard side > 1 else { return picture }
    let (rows, columns, channels) = (picture.shape[1] / side, picture.shape[2] / side, picture.shape[3])
    return picture.reshaped([rows, side, columns, side, channels]).permuted([0, 2, 4, 1, 3])
      .reshaped([1, rows, columns, channels * side * side])
  }

  /// `[1, h, w, C * side * side]` as a picture `[1, h * side, w * side, C]`.
  public static func unfolded(_ latent: Tensor, side: Int) -> Tensor {
    guard side > 1 else { return latent }
    let (rows, columns, channels) = (latent.shape[1], latent.shape[2], latent.shape[3] / (side * side))
    return latent.reshaped([rows, columns, channels, side, side]).permuted([0, 3, 1, 4, 2])
      .reshaped([1, rows * side, columns * side, channels])
  }
}
