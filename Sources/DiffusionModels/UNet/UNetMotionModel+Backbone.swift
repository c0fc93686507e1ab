public import DiffusionLayers
public import TensorCore

extension UNetMotionModel: PreparingBackbone {
  public var inChannels: Int { config.inChannels }
  public var outChannels: Int { config.outChannels }
  public var textDim: Int { config.crossAttentionDim }
  public var patchSize: [Int] { [1, 1, 1] }
  public var maxFrames: Int? { config.motion.maxSeqLength }

  /// The results of the way down, and beside them what a layer of the finest level holds: its residual, its input, and the
  /// gated feed-forward's inner tokens. Of entries that go one after another (`UNetPieces`) those of one, and of all what
  /// goes into the first layer and what comes out of it and of the last.
  public func activationFloats(batch: Int, frames: Int, rows: Int, columns: Int) -> Int {
    let channels = config.blockOutChannels
    if batch > 1, frames * rows * columns >= UNetPieces.leastTokens {
      return activationFloats(batch: 1, frames: frames, rows: rows, columns: columns)
        + 3 * batch * frames * rows * columns * channels[0]
    }
    var (skips, tokens) = (0, batch * frames * rows * columns)
    for width in channels {
      skips += (config.layersPerBlock + 1) * tokens * width
      tokens = (tokens + 3) / 4
    }
    return skips + 15 * batch * frames * rows * columns * channels[0]
  }

  /// Keys and values of all cross-attentions.
  public func promptFloats(length: Int) -> Int {
    2 * length * crossAttentions.reduce(0) { $0 + $1.width }
  }

  public func rebuilt(from weights: Weights) throws(WeightsError) -> UNetMotionModel {
    try UNetMotionModel(weights, config)
  }

  public func predict(
    _ latents: Tensor, timesteps: [Float], prompt: any BackbonePrompt, _ run: RunContext,
    cache: inout FirstBlockCache
  ) throws(Cancelled) -> Tensor {
    try self(latents, timesteps: timesteps, prompt: own(prompt), run, cache: &cache)
  }

  /// Whether a matrix of this name may be rounded to 8 bits: those of the attentions and feed-forwards, which are nearly
  /// all of the arithmetic beside the convolutions.
  public static func toleratesInt8(_ tensor: String) -> Bool {
    guard tensor.hasSuffix(".weight") else { return false }
    return tensor.contains(".transformer_blocks.")
      && [".attn1.", ".attn2.", ".ff."].contains(where: tensor.contains)
  }
}
