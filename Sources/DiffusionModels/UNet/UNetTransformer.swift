import DiffusionLayers
import TensorCore

/// The layers of a transformer block: two attentions and a feed-forward (diffusers' `BasicTransformerBlock`).
struct UNetTransformerBlock: Sendable {
  let norm1: LayerNorm
  let attn1: UNetAttention
  let norm2: LayerNorm
  let attn2: UNetAttention
  let norm3: LayerNorm
  let ff: GEGLUFeedForward

  /// - Parameter context: width of what the second attention looks at.
  init(_ weights: Weights, _ dim: Int, context: Int, heads: Int) throws(WeightsError) {
    norm1 = try LayerNorm(weights["norm1"], dim, eps: 1e-5)
    attn1 = try UNetAttention(weights["attn1"], dim, context: dim, heads: heads)
    norm2 = try LayerNorm(weights["norm2"], dim, eps: 1e-5)
    attn2 = try UNetAttention(weights["attn2"], dim, context: context, heads: heads)
    norm3 = try LayerNorm(weights["norm3"], dim, eps: 1e-5)
    ff = try GEGLUFeedForward(weights["ff"], dim)
  }
}

/// Transformer blocks over the pixels of pictures: a norm, a projection, the blocks and a projection back, around a
/// residual. What the blocks' attentions look at is up to `SpatialTransformer` and `MotionModule`.
struct UNetTransformer: Sendable {
  let norm: GroupNorm
  let projIn: Linear
  let blocks: [UNetTransformerBlock]
  let projOut: Linear

  /// - Parameters:
  ///   - layers: number of blocks.
  ///   - isLinear: whether the projections are stored as matrices, not as filters of 1 by 1.
  init(
    _ weights: Weights, _ dim: Int, context: Int, heads: Int, layers: Int, isLinear: Bool,
    _ config: UNetMotionConfig
  ) throws(WeightsError) {
    func projection(_ weights: Weights) throws(WeightsError) -> Linear {
      isLinear ? try Linear(weights, dim, dim) : try Linear(patches: weights, [dim, 1, 1], dim)
    }
    norm = try GroupNorm(weights["norm"], groups: config.normNumGroups, dim, eps: 1e-6)
    projIn = try projection(weights["proj_in"])
    var blocks: [UNetTransformerBlock] = []
    for layer in 0..<layers {
      blocks.append(
        try UNetTransformerBlock(weights["transformer_blocks"][layer], dim, context: context, heads: heads))
    }
    self.blocks = blocks
    projOut = try projection(weights["proj_out"])
  }

  /// Pictures `x` `[B * F, H, W, C]` and their norm; `attend` is given the number of a block, the block, tokens
  /// `[B, F * H * W, C]` and their context, and does the block's attentions.
  func callAsFunction(
    _ x: Tensor, normalized: Tensor, _ unet: UNetRun,
    attend: (Int, UNetTransformerBlock, Tensor, RunContext) throws(Cancelled) -> Tensor
  ) throws(Cancelled) -> Tensor {
    let run = unet.tokens(of: x)
    var tokens = projIn(unet.asTokens(normalized), run)
    for (index, block) in blocks.enumerated() {
      tokens = try attend(index, block, tokens, run)
      try run.checkpoint()
      tokens = block.ff(block.norm3(tokens, run), onto: tokens, run)
      try run.checkpoint()
    }
    return projOut(tokens, onto: unet.asTokens(x), run).reshaped(x.shape)
  }
}
