import DiffusionLayers
import DiffusionModels
import TensorCore

/// How pictures become latents and back: the autoencoder of a model, or none.
enum LatentCodec: Sendable {
  /// Pixels in [-1, 1] are the latents (`vae: [null, null]`).
  case pixels
  /// TAEF2's layout, normalised per channel.
  case tiny(AutoencoderTiny)

  /// Pixels per latent along each side.
  var ratio: Int {
    switch self {
    case .pixels: 1
    case .tiny: AutoencoderTiny.spatialRatio
    }
  }

  /// Channels of a latent.
  var channels: Int {
    switch self {
    case .pixels: 3
    case .tiny: AutoencoderTiny.latentChannels
    }
  }

  /// Floats that the largest layers hold at one time for one picture of this size.
  func peakFloats(height: Int, width: Int) -> Int {
    switch self {
    case .pixels: height * width * 3
    case .tiny: height * width * 64 * 4
    }
  }

  /// Encodes frames of one size, extended to `height` by `width`, to latents `[1, C, F, h, w]`.
  func encode(_ frames: [Frame], height: Int, width: Int, _ run: RunContext) throws(Cancelled) -> Tensor {
    var pictures: [Tensor] = []  // [1, h, w, C] each
    for frame in frames {
      switch self {
      case .pixels:
        pictures.append(frame.tensor(height: height, width: width, scale: 2 / 255, shift: -1))
      case .tiny(let autoencoder):
        let picture = frame.tensor(height: height, width: width, scale: 1 / 255, shift: 0)
        pictures.append(autoencoder.normalized(try autoencoder.encode(picture, run)))
      }
      try run.checkpoint()
    }
    return Tensor.concatenated(pictures, axis: 0).permuted([3, 0, 1, 2])
      .reshaped([1, channels, frames.count, height / ratio, width / ratio])
  }

  /// Decodes latents `[1, C, F, h, w]` to frames cropped to `height` by `width`.
  func decode(_ latents: Tensor, height: Int, width: Int, _ run: RunContext) throws(Cancelled) -> [Frame] {
    var frames: [Frame] = []
    for index in 0..<latents.shape[2] {
      let picture = latents.narrow(2, from: index, length: 1).select(0, 0).permuted([1, 2, 3, 0]).contiguous()
      switch self {
      case .pixels:
        frames.append(Frame(picture, height: height, width: width, scale: 127.5, shift: 127.5))
      case .tiny(let autoencoder):
        let decoded = try autoencoder.decode(autoencoder.denormalized(picture), run)
        frames.append(Frame(decoded, height: height, width: width, scale: 255, shift: 0))
      }
      try run.checkpoint()
    }
    return frames
  }
}
