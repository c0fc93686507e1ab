import DiffusionLayers
import TensorCore

/// Attention without biases of queries, keys and values (diffusers' `Attention` in UNets).
struct UNetAttention: Sendable {
  let toQ: Linear
  let toK: Linear
  let toV: Linear
  let toOut: Linear
  let heads: Int
  /// Width of queries, keys and values.
  let width: Int

  /// - Parameter context: width of what keys and values are made of.
  init(_ weights: Weights, _ dim: Int, context: Int, heads: Int) throws(WeightsError) {
    toQ = try Linear(weights["to_q"], dim, dim, bias: false)
    toK = try Linear(weights["to_k"], context, dim, bias: false)
    toV = try Linear(weights["to_v"], context, dim, bias: false)
    toOut = try Linear(weights["to_out"][0], dim, dim)
    self.heads = heads
    width = dim
  }

  /// The tokens `x` `[B, F * P, D]` of each of the frames attend to those of the same frame; the result is added to
  /// `residual`.
  func withinFrames(_ x: Tensor, frames: Int, onto residual: Tensor, _ run: RunContext) -> Tensor {
    let shape = [x.shape[0] * frames, x.shape[1] / frames, heads, x.shape[2] / heads]
    let mixed = Tensor.attention(
      toQ(x, run).reshaped(shape), toK(x, run).reshaped(shape), toV(x, run).reshaped(shape))
    return toOut(mixed.reshaped(x.shape), onto: residual, run)
  }

  /// Each token `x` `[B, F * P, D]` attends to those at its place in all frames; the result is added to `residual`.
  func acrossFrames(_ x: Tensor, frames: Int, onto residual: Tensor, _ run: RunContext) -> Tensor {
    let shape = [x.shape[0], frames, x.shape[1] / frames, heads, x.shape[2] / heads]
    let mixed = Tensor.frameAttention(
      toQ(x, run).reshaped(shape), toK(x, run).reshaped(shape), toV(x, run).reshaped(shape))
    return toOut(mixed.reshaped(x.shape), onto: residual, run)
  }

  /// All tokens `x` `[B, L, D]` attend to the prompt; the result is added to `residual`.
  func callAsFunction(_ x: Tensor, prompt: UNetPrompt.Block, onto residual: Tensor, _ run: RunContext)
    -> Tensor
  {
    let query = toQ(x, run).reshaped([x.shape[0], x.shape[1], heads, x.shape[2] / heads])
    let mixed = Tensor.attention(query, prompt.key, prompt.value)
    return toOut(mixed.reshaped(x.shape), onto: residual, run)
  }
}

/// Transformer blocks over the pixels of each frame, which attend to each other and to the text (diffusers'
/// `Transformer2DModel`).
struct SpatialTransformer: Sendable {
  let transformer: UNetTransformer
  /// The places of its cross-attentions in a prompt.
  let places: Range<Int>

  /// - Parameter index: the first of its places, then the one behind the last.
  init(_ weights: Weights, _ dim: Int, heads: Int, _ config: UNetMotionConfig, index: inout Int)
    throws(WeightsError)
  {
    transformer = try UNetTransformer(
      weights, dim, context: config.crossAttentionDim, heads: heads,
      layers: config.transformerLayersPerBlock, isLinear: config.useLinearProjection, config)
    places = index..<index + transformer.blocks.count
    index = places.upperBound
  }

  /// Pictures `[B * F, H, W, C]`.
  func callAsFunction(_ x: Tensor, prompt: UNetPrompt, _ unet: UNetRun) throws(Cancelled) -> Tensor {
    try transformer(x, normalized: transformer.norm(x), unet) {
      index, block, tokens, run throws(Cancelled) in
      let x = block.attn1.withinFrames(block.norm1(tokens, run), frames: unet.frames, onto: tokens, run)
      try run.checkpoint()
      return block.attn2(
        block.norm2(x, run), prompt: prompt.blocks[places.lowerBound + index], onto: x, run)
    }
  }
}
