public import DiffusionLayers
public import TensorCore

extension AutoencoderKLWan {
  public typealias Tiling = PictureTiling

  /// The largest tiles whose working set stays within `budget` floats, a quarter of each overlapping the next;
  /// nil where whole pictures of this size do.
  ///
  /// Tiles are never smaller than 16 latents (128 pixels): smaller ones show their borders.
  public func tiling(height: Int, width: Int, budget: Int) -> Tiling? {
    Tiling.fitting(height: height, width: width, ratio: spatialRatio) { height, width in
      let peak = peakFloats(height: height, width: width)
      return max(peak.encode, peak.decode) <= budget
    }
  }

  /// Encodes a whole clip `[F, H, W, 3]` in tiles.
  public func encode(_ frames: Tensor, tiling: Tiling, _ run: RunContext) throws(Cancelled) -> Posterior {
    let latent = tiling.latent(ratio: spatialRatio)
    let both = try Tiling.tiled(frames, source: tiling, target: latent) { tile throws(Cancelled) in
      let posterior = try encode(tile, run)
      return Tensor.concatenated([posterior.mean, posterior.logvar], axis: 3)
    }
    let part = { both.narrow(3, from: $0, length: config.zDim).contiguous() }
    return Posterior(mean: part(0), logvar: part(config.zDim))
  }

  /// Decodes a whole clip of latents `[f, h, w, zDim]` in tiles.
  public func decode(_ latents: Tensor, tiling: Tiling, _ run: RunContext) throws(Cancelled) -> Tensor {
    let latent = tiling.latent(ratio: spatialRatio)
    return try Tiling.tiled(latents, source: latent, target: tiling) { tile throws(Cancelled) in
      try decode(tile, run)
    }
  }
}
