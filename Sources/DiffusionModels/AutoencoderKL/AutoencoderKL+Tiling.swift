public import DiffusionLayers
public import TensorCore

extension AutoencoderKL {
  /// The largest tiles whose working set stays within `budget` floats, a quarter of each overlapping the next;
  /// nil where whole pictures of this size do.
  public func tiling(height: Int, width: Int, budget: Int) -> PictureTiling? {
    PictureTiling.fitting(height: height, width: width, ratio: spatialRatio) { height, width in
      let peak = peakFloats(height: height, width: width)
      return max(peak.encode, peak.decode) <= budget
    }
  }

  /// Encodes frames `[F, H, W, 3]` in tiles.
  public func encode(_ frames: Tensor, tiling: PictureTiling, _ run: RunContext) throws(Cancelled)
    -> Posterior
  {
    let latent = tiling.latent(ratio: spatialRatio)
    let both = try PictureTiling.tiled(frames, source: tiling, target: latent) { tile throws(Cancelled) in
      let posterior = try encode(tile, run)
      return Tensor.concatenated([posterior.mean, posterior.logvar], axis: 3)
    }
    let part = { both.narrow(3, from: $0, length: latentChannels).contiguous() }
    return Posterior(mean: part(0), logvar: part(latentChannels))
  }

  /// Decodes latents `[F, h, w, C]`, not normalised, in tiles.
  public func decode(_ latents: Tensor, tiling: PictureTiling, _ run: RunContext) throws(Cancelled) -> Tensor
  {
    let latent = tiling.latent(ratio: spatialRatio)
    return try PictureTiling.tiled(latents, source: latent, target: tiling) { tile throws(Cancelled) in
      try decode(tile, run)
    }
  }

  /// Floats that encoding and decoding one frame of this size hold at most beside the weights.
  ///
  /// Counted from the layers: what goes in, its norm, what comes out and the convolution's own memory. The buffer
  /// pool's size classes exceed a request by an eighth on average.
  public func peakFloats(height: Int, width: Int) -> (encode: Int, decode: Int) {
    let rows = (height + spatialRatio - 1) / spatialRatio
    let columns = (width + spatialRatio - 1) / spatialRatio
    return (
      encoder.footprint(rows: rows * spatialRatio, columns: columns * spatialRatio),
      decoder.footprint(rows: rows, columns: columns)
    )
  }
}

extension KLNetwork {
  /// The floats held at most for a picture that enters with this extent.
  func footprint(rows: Int, columns: Int) -> Int {
    var (rows, columns, most) = (rows, columns, 0)
    for stage in stages {
      most = max(most, stage.floats(rows: &rows, columns: &columns))
    }
    return most / 8 * 9
  }
}

extension KLStage {
  /// The floats that are alive while the stage works on a picture of this extent, which becomes that of its result.
  fileprivate func floats(rows: inout Int, columns: inout Int) -> Int {
    let pixels = rows * columns
    switch self {
    case .convolution(let layer):
      return (layer.inputs + layer.outputs) * pixels + layer.scratchFloats(rows: rows, columns: columns)
    case .residual(let block):
      let (inputs, outputs) = (block.conv1.inputs, block.conv1.outputs)
      let first =
        (2 * inputs + outputs) * pixels + block.conv1.scratchFloats(rows: rows, columns: columns)
      let second =
        (inputs + 2 * outputs + (inputs == outputs ? 0 : outputs)) * pixels
        + block.conv2.scratchFloats(rows: rows, columns: columns)
      return max(first, second)
    case .attention(let block):
      // The picture, its norm, queries, keys and values as they are and packed, and their mixture.
      return 8 * block.channels * pixels + min(pixels, 64) * pixels * EngineThreads.count
    case .down(let layer):
      (rows, columns) = (rows / 2, columns / 2)
      return layer.inputs * pixels + layer.outputs * rows * columns
    case .up(let layer):
      (rows, columns) = (2 * rows, 2 * columns)
      let scratch = layer.scratchFloats(rows: rows, columns: columns)
      return layer.inputs * pixels + layer.outputs * rows * columns
        + (scratch > 0 ? scratch : layer.inputs * rows * columns)
    case .head(_, let layer):
      return (2 * layer.inputs + layer.outputs) * pixels + layer.scratchFloats(rows: rows, columns: columns)
    }
  }
}
