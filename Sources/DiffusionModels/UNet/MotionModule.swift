import DiffusionLayers
import Glibc
import TensorCore

// Reference: diffusers, `AnimateDiffTransformer3D`; guoyww/AnimateDiff, models/motion_module.py.

/// Two attentions over frames and a feed-forward, for every place of the pictures by itself.
struct MotionTransformerBlock: Sendable {
  let norm1: LayerNorm
  let attn1: UNetAttention
  let norm2: LayerNorm
  let attn2: UNetAttention
  let norm3: LayerNorm
  let ff: GEGLUFeedForward

  init(_ weights: Weights, _ dim: Int, heads: Int) throws(WeightsError) {
    norm1 = try LayerNorm(weights["norm1"], dim, eps: 1e-5)
    attn1 = try UNetAttention(weights["attn1"], dim, context: dim, heads: heads)
    norm2 = try LayerNorm(weights["norm2"], dim, eps: 1e-5)
    attn2 = try UNetAttention(weights["attn2"], dim, context: dim, heads: heads)
    norm3 = try LayerNorm(weights["norm3"], dim, eps: 1e-5)
    ff = try GEGLUFeedForward(weights["ff"], dim)
  }

  /// Tokens `x` `[B, F * P, D]`; `positions` `[F, D]` are added behind the norms of both attentions.
  func callAsFunction(_ x: Tensor, positions: Tensor, _ run: RunContext) throws(Cancelled) -> Tensor {
    let frames = positions.shape[0]
    let byFrame = [x.shape[0], frames, x.shape[1] / frames, x.shape[2]]
    func normalized(_ norm: LayerNorm, _ x: Tensor) -> Tensor {
      norm(x.reshaped(byFrame), positions: positions, run).reshaped(x.shape)
    }
    var x = attn1.acrossFrames(normalized(norm1, x), frames: frames, onto: x, run)
    x = attn2.acrossFrames(normalized(norm2, x), frames: frames, onto: x, run)
    try run.checkpoint()
    x = ff(norm3(x, run), onto: x, run)
    try run.checkpoint()
    return x
  }
}

/// A motion module: transformer blocks over frames.
struct MotionModule: Sendable {
  let norm: GroupNorm
  let projIn: Linear
  let blocks: [MotionTransformerBlock]
  let projOut: Linear
  let extent: UNetMotionConfig.NormExtent
  /// Sinusoids of the positions, `[maxFrames, C]`.
  let positions: Tensor

  init(_ weights: Weights, _ dim: Int, heads: Int, _ config: UNetMotionConfig) throws(WeightsError) {
    norm = try GroupNorm(weights["norm"], groups: config.normNumGroups, dim, eps: 1e-6)
    projIn = try Linear(weights["proj_in"], dim, dim)
    var blocks: [MotionTransformerBlock] = []
    for layer in 0..<config.motion.transformerLayersPerBlock {
      blocks.append(try MotionTransformerBlock(weights["transformer_blocks"][layer], dim, heads: heads))
    }
    self.blocks = blocks
    projOut = try Linear(weights["proj_out"], dim, dim)
    extent = config.motion.norm
    positions = Self.positions(config.motion.maxSeqLength, dim)
  }

  /// Pictures `[B * F, H, W, C]`.
  func callAsFunction(_ x: Tensor, _ unet: UNetRun) throws(Cancelled) -> Tensor {
    let run = unet.tokens(of: x)
    let positions = positions.narrow(0, from: 0, length: unet.frames)
    var tokens = projIn(unet.asTokens(norm(x, over: extent, frames: unet.frames)), run)
    for block in blocks { tokens = try block(tokens, positions: positions, run) }
    return projOut(tokens, onto: unet.asTokens(x), run).reshaped(x.shape)
  }

  /// `sin(p f)` and `cos(p f)` in turn, `f` from 1 down to nearly 1/10000 (diffusers' `SinusoidalPositionalEmbedding`).
  static func positions(_ count: Int, _ dim: Int) -> Tensor {
    Tensor(shape: [count, dim]) { values in
      for position in 0..<count {
        for pair in 0..<dim / 2 {
          let angle = Float(position) * expf(Float(2 * pair) * (-logf(10000) / Float(dim)))
          values[position * dim + 2 * pair] = sinf(angle)
          values[position * dim + 2 * pair + 1] = cosf(angle)
        }
      }
    }
  }
}
