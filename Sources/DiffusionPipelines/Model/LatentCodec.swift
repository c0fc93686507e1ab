import DiffusionLayers
import DiffusionModels
import TensorCore

/// How pictures become latents and back: the autoencoder of a model, or none.
enum LatentCodec: Sendable {
  /// Pixels in [-1, 1] are the latents (`vae: [null, null]`), squares of `patch` by `patch` as channels of one.
  case pixels(patch: Int)
  /// TAEF2's layout, normalised per channel.
  case tiny(AutoencoderTiny)
  /// Wan 2.1's, causal in time, normalised per channel.
  case wan(AutoencoderKLWan)
  /// Stable Diffusion's, each frame on its own, scaled by a number.
  case kl(AutoencoderKL)

  /// Pixels per latent along each side.
  var ratio: Int {
    switch self {
    case .pixels(let patch): patch
    case .tiny: AutoencoderTiny.spatialRatio
    case .wan(let autoencoder): autoencoder.spatialRatio
    case .kl(let autoencoder): autoencoder.spatialRatio
    }
  }

  /// Frames per latent frame; above 1 the first frame has a latent frame of its own.
  var temporalRatio: Int {
    if case .wan(let autoencoder) = self { return autoencoder.temporalRatio }
    return 1
  }

  /// Channels of a latent.
  var channels: Int {
    switch self {
    case .pixels(let patch): 3 * patch * patch
    case .tiny: AutoencoderTiny.latentChannels
    case .wan(let autoencoder): autoencoder.latentChannels
    case .kl(let autoencoder): autoencoder.latentChannels
    }
  }

  /// Floats that are alive at one time while pictures of this size pass through, beside the clip itself; with a
  /// `budget` of floats that is too small for whole pictures, those of its tiles.
  func peakFloats(height: Int, width: Int, budget: Int = .max) -> Int {
    switch self {
    case .pixels: return height * width * 3
    case .tiny: return height * width * 64 * 4
    case .wan(let autoencoder):
      let tile = autoencoder.tiling(height: height, width: width, budget: budget)?.tile ?? .max
      let peak = autoencoder.peakFloats(height: min(height, tile), width: min(width, tile))
      return max(peak.encode, peak.decode)
    case .kl(let autoencoder):
      let tile = autoencoder.tiling(height: height, width: width, budget: budget)?.tile ?? .max
      let peak = autoencoder.peakFloats(height: min(height, tile), width: min(width, tile))
      return max(peak.encode, peak.decode)
    }
  }

  /// Whether pictures are encoded to a distribution of which samplers take a draw.
  var drawsLatents: Bool { if case .kl = self { true } else { false } }

  /// Encodes frames of one size, extended to `height` by `width`, to latents `[1, C, f, h, w]`. Where latent
  /// frames hold several frames, the number of frames is one that they come out even for.
  /// - Parameters:
  ///   - budget: floats to work with; large pictures are cut into tiles where it is too small.
  ///   - draws: normal draws in the latents' shape, for codecs that draw latents; their mode where nil.
  func encode(
    _ frames: [Frame], height: Int, width: Int, budget: Int = .max, draws: Tensor? = nil, _ run: RunContext
  ) throws(Cancelled) -> Tensor {
    var latents: [Tensor] = []  // [1, h, w, C] each
    switch self {
    case .pixels(let patch):
      latents = frames.map {
        PixelPatches.folded($0.tensor(height: height, width: width, scale: 2 / 255, shift: -1), side: patch)
      }
    case .tiny(let autoencoder):
      for frame in frames {
        let picture = frame.tensor(height: height, width: width, scale: 1 / 255, shift: 0)
        latents.append(autoencoder.normalized(try autoencoder.encode(picture, run)))
        try run.checkpoint()
      }
    case .wan(let autoencoder):
      if let tiling = autoencoder.tiling(height: height, width: width, budget: budget) {
        let clip = Tensor.concatenated(
          frames.map { $0.tensor(height: height, width: width, scale: 2 / 255, shift: -1) }, axis: 0)
        latents = [autoencoder.normalized(try autoencoder.encode(clip, tiling: tiling, run).mean)]
        break
      }
      var encoder = AutoencoderKLWan.Encoder(autoencoder)
      for frame in frames {
        let picture = frame.tensor(height: height, width: width, scale: 2 / 255, shift: -1)
        for posterior in try encoder.push(picture, run) {
          latents.append(autoencoder.normalized(posterior.mean))
        }
      }
    case .kl(let autoencoder):
      let tiling = autoencoder.tiling(height: height, width: width, budget: budget)
      for (index, frame) in frames.enumerated() {
        let picture = frame.tensor(height: height, width: width, scale: 2 / 255, shift: -1)
        let posterior =
          if let tiling { try autoencoder.encode(picture, tiling: tiling, run) } else {
            try autoencoder.encode(picture, run)
          }
        let noise = draws.map { Self.picture($0, index) }
        latents.append(autoencoder.normalized(noise.map { posterior.sample(noise: $0) } ?? posterior.mean))
      }
    }
    let clip = Tensor.concatenated(latents, axis: 0)
    return clip.permuted([3, 0, 1, 2])
      .reshaped([1, channels, clip.shape[0], height / ratio, width / ratio])
  }

  /// Latent frame `index` of `[1, C, f, h, w]` as `[1, h, w, C]`.
  private static func picture(_ latents: Tensor, _ index: Int) -> Tensor {
    latents.narrow(2, from: index, length: 1).select(0, 0).permuted([1, 2, 3, 0]).contiguous()
  }

  /// Decodes latents `[1, C, f, h, w]` to frames cropped to `height` by `width`.
  func decode(_ latents: Tensor, height: Int, width: Int, budget: Int = .max, _ run: RunContext)
    throws(Cancelled) -> [Frame]
  {
    var frames: [Frame] = []
    try decode(latents, budget: budget, run) { pictures, scale, shift in
      for index in 0..<pictures.shape[0] {
        let picture = pictures.narrow(0, from: index, length: 1)
        frames.append(Frame(picture, height: height, width: width, scale: scale, shift: shift))
      }
    }
    return frames
  }

  /// Decodes latents piece by piece: `[T, H, W, 3]` each, bytes by `value * scale + shift`.
  private func decode(
    _ latents: Tensor, budget: Int, _ run: RunContext,
    _ take: (_ pictures: Tensor, _ scale: Float, _ shift: Float) -> Void
  ) throws(Cancelled) {
    var decoder: AutoencoderKLWan.Decoder?
    if case .wan(let autoencoder) = self {
      let (height, width) = (latents.shape[3] * ratio, latents.shape[4] * ratio)
      if let tiling = autoencoder.tiling(height: height, width: width, budget: budget) {
        let clip = latents.select(0, 0).permuted([1, 2, 3, 0]).contiguous()
        take(try autoencoder.decode(autoencoder.denormalized(clip), tiling: tiling, run), 127.5, 127.5)
        return
      }
      decoder = AutoencoderKLWan.Decoder(autoencoder)
    }
    for index in 0..<latents.shape[2] {
      let latent = Self.picture(latents, index)
      switch self {
      case .pixels(let patch): take(PixelPatches.unfolded(latent, side: patch), 127.5, 127.5)
      case .tiny(let autoencoder):
        take(try autoencoder.decode(autoencoder.denormalized(latent), run), 255, 0)
      case .wan(let autoencoder):
        guard let pictures = try decoder?.push(autoencoder.denormalized(latent), run) else { continue }
        take(pictures, 127.5, 127.5)
      case .kl(let autoencoder):
        let inner = autoencoder.denormalized(latent)
        let tiling = autoencoder.tiling(
          height: latent.shape[1] * ratio, width: latent.shape[2] * ratio, budget: budget)
        let pictures =
          if let tiling { try autoencoder.decode(inner, tiling: tiling, run) } else {
            try autoencoder.decode(inner, run)
          }
        take(pictures, 127.5, 127.5)
      }
      try run.checkpoint()
    }
  }
}
