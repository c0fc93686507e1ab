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

/// Attention within each frame, attention to the text, feed-forward (diffusers' `BasicTransformerBlock`).
struct SpatialTransformerBlock: Sendable {
  let norm1: LayerNorm
  let attn1: UNetAttention
  let norm2: LayerNorm
  let attn2: UNetAttention
  let norm3: LayerNorm
  let ff: GEGLUFeedForward
  /// The place of its cross-attention in a prompt.
  let index: Int

  init(_ weights: Weights, _ dim: Int, heads: Int, context: Int, index: inout Int) throws(WeightsError) {
    norm1 = try LayerNorm(weights["norm1"], dim, eps: 1e-5)
    attn1 = try UNetAttention(weights["attn1"], dim, context: dim, heads: heads)
    norm2 = try LayerNorm(weights["norm2"], dim, eps: 1e-5)
    attn2 = try UNetAttention(weights["attn2"], dim, context: context, heads: heads)
    norm3 = try LayerNorm(weights["norm3"], dim, eps: 1e-5)
    ff = try GEGLUFeedForward(weights["ff"], dim)
    self.index = index
    index += 1
  }

  /// Tokens `x` `[B, F * P, D]`.
  func callAsFunction(_ x: Tensor, frames: Int, prompt: UNetPrompt, _ run: RunContext) throws(Cancelled)
    -> Tensor
  {
    var x = attn1.withinFrames(norm1(x, run), frames: frames, onto: x, run)
    try run.checkpoint()
    x = attn2(norm2(x, run), prompt: prompt.blocks[index], onto: x, run)
    try run.checkpoint()
    x = ff(norm3(x, run), onto: x, run)
    try run.checkpoint()
    return x
  }
}

/// Transformer blocks over the pixels of each frame (diffusers' `Transformer2DModel`).
struct SpatialTransformer: Sendable {
  let norm: GroupNorm
  let projIn: Linear
  let blocks: [SpatialTransformerBlock]
  let projOut: Linear

  init(_ weights: Weights, _ dim: Int, heads: Int, _ config: UNetMotionConfig, index: inout Int)
    throws(WeightsError)
  {
    norm = try GroupNorm(weights["norm"], groups: config.normNumGroups, dim, eps: 1e-6)
    func projection(_ weights: Weights) throws(WeightsError) -> Linear {
      config.useLinearProjection
        ? try Linear(weights, dim, dim) : try Linear(patches: weights, [dim, 1, 1], dim)
    }
    projIn = try projection(weights["proj_in"])
    var blocks: [SpatialTransformerBlock] = []
    for layer in 0..<config.transformerLayersPerBlock {
      blocks.append(
        try SpatialTransformerBlock(
          weights["transformer_blocks"][layer], dim, heads: heads, context: config.crossAttentionDim,
          index: &index))
    }
    self.blocks = blocks
    projOut = try projection(weights["proj_out"])
  }

  /// Pictures `[B * F, H, W, C]`.
  func callAsFunction(_ x: Tensor, prompt: UNetPrompt, _ unet: UNetRun) throws(Cancelled) -> Tensor {
    let run = unet.tokens(of: x)
    var tokens = projIn(unet.asTokens(norm(x)), run)  // [B, F * P, C]
    for block in blocks { tokens = try block(tokens, frames: unet.frames, prompt: prompt, run) }
    return projOut(tokens, onto: unet.asTokens(x), run).reshaped(x.shape)
  }
}
