import DiffusionLayers
import Glibc
import TensorCore

// Reference: diffusers, `AnimateDiffTransformer3D`; guoyww/AnimateDiff, models/motion_module.py.

/// A motion module: transformer blocks whose attentions both go across frames, for every place of the pictures by itself.
struct MotionModule: Sendable {
  let transformer: UNetTransformer
  let extent: UNetMotionConfig.NormExtent
  /// Sinusoids of the positions, `[maxFrames, C]`.
  let positions: Tensor

  init(_ weights: Weights, _ dim: Int, heads: Int, _ config: UNetMotionConfig) throws(WeightsError) {
    transformer = try UNetTransformer(
      weights, dim, context: dim, heads: heads, layers: config.motion.transformerLayersPerBlock,
      isLinear: true, config)
    extent = config.motion.norm
    positions = Self.positions(config.motion.maxSeqLength, dim)
  }

  /// Pictures `[B * F, H, W, C]`. Positions are added behind the norms of both attentions.
  func callAsFunction(_ x: Tensor, _ unet: UNetRun) throws(Cancelled) -> Tensor {
    let frames = unet.frames
    let positions = positions.narrow(0, from: 0, length: frames)
    func normalized(_ norm: LayerNorm, _ x: Tensor, _ run: RunContext) -> Tensor {
      norm(
        x.reshaped([x.shape[0], frames, x.shape[1] / frames, x.shape[2]]), positions: positions, run
      ).reshaped(x.shape)
    }
    return try transformer(x, normalized: transformer.norm(x, over: extent, frames: frames), unet) {
      _, block, tokens, run in
      let x = block.attn1.acrossFrames(
        normalized(block.norm1, tokens, run), frames: frames, onto: tokens, run)
      return block.attn2.acrossFrames(normalized(block.norm2, x, run), frames: frames, onto: x, run)
    }
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
