public import DiffusionLayers
public import TensorCore

extension WanPrompt: BackbonePrompt {}

extension WanTransformer: PreparingBackbone {
  public var inChannels: Int { config.inChannels }
  public var outChannels: Int { config.outChannels }
  public var textDim: Int { config.textDim }
  public var patchSize: [Int] { config.patchSize }
  public var maxFrames: Int? { nil }

  /// Residual, norm, q, k, v, mix and projection, or the feed-forward's inner width.
  public func activationFloats(batch: Int, frames: Int, rows: Int, columns: Int) -> Int {
    let latents = frames * rows * columns
    let tokens = latents / patchSize.reduce(1, *)
    return batch * tokens * (6 * config.dim + max(3 * config.dim, config.ffnDim))
      + batch * latents * config.inChannels
  }

  /// Keys and values of all blocks.
  public func promptFloats(length: Int) -> Int { 2 * length * config.dim * config.numLayers }

  public func rebuilt(from weights: Weights) throws(WeightsError) -> WanTransformer {
    try WanTransformer(weights, config)
  }

  public func predict(
    _ latents: Tensor, timesteps: [Float], prompt: any BackbonePrompt, _ run: RunContext,
    cache: inout FirstBlockCache
  ) throws(Cancelled) -> Tensor {
    try self(latents, timesteps: timesteps, prompt: own(prompt), run, cache: &cache)
  }
}
