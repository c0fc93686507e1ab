import DiffusionLayers
import TensorCore

// Reference: diffusers, models/unets/unet_motion_model.py, models/resnet.py. Names of weights are those of its checkpoints.

/// Pictures `[B * F, H, W, C]` of `frames` frames each clip, and what belongs to every layer that they pass.
struct UNetRun: Sendable {
  let frames: Int
  /// SiLU of the time embedding, `[B, T]`.
  var time: Tensor
  var run: RunContext

  /// The run's context for tokens of pictures of this size, `[B, F * H * W, C]`.
  func tokens(of pictures: Tensor) -> RunContext {
    run.along(.frames(perFrame: pictures.shape[1] * pictures.shape[2]))
  }

  /// Pictures as tokens of clips, `[B, F * H * W, C]`.
  func asTokens(_ x: Tensor) -> Tensor { x.reshaped([x.shape[0] / frames, -1, x.shape[3]]) }
}

extension GroupNorm {
  /// The norm of pictures `[B * F, H, W, C]`, frame by frame or over the clip.
  func callAsFunction(
    _ x: Tensor, over extent: UNetMotionConfig.NormExtent, frames: Int, activation: Activation = .identity,
    adding offset: Tensor? = nil
  ) -> Tensor {
    switch extent {
    case .frame: self(x, activation: activation, adding: offset)
    case .clip:
      self(
        x.reshaped([x.shape[0] / frames, frames * x.shape[1], x.shape[2], x.shape[3]]),
        activation: activation, adding: offset
      ).reshaped(x.shape)
    }
  }
}

/// Two convolutions with the time embedding between them, around a residual (diffusers' `ResnetBlock2D`).
struct ResnetBlock2D: Sendable {
  let norm1: GroupNorm
  let conv1: Conv2D
  let timeEmbProj: Linear
  let norm2: GroupNorm
  let conv2: Conv2D
  /// A convolution by 1 by 1 filters, where the channels change.
  let convShortcut: Linear?
  let extent: UNetMotionConfig.NormExtent

  init(_ weights: Weights, _ inputs: Int, _ outputs: Int, _ config: UNetMotionConfig) throws(WeightsError) {
    let (groups, eps) = (config.normNumGroups, config.normEps)
    norm1 = try GroupNorm(weights["norm1"], groups: groups, inputs, eps: eps)
    conv1 = try Conv2D(weights["conv1"], inputs, outputs)
    timeEmbProj = try Linear(weights["time_emb_proj"], config.timeEmbedDim, outputs)
    norm2 = try GroupNorm(weights["norm2"], groups: groups, outputs, eps: eps)
    conv2 = try Conv2D(weights["conv2"], outputs, outputs)
    convShortcut =
      inputs == outputs ? nil : try Linear(patches: weights["conv_shortcut"], [inputs, 1, 1], outputs)
    extent = config.resnetNorm
  }

  func callAsFunction(_ x: Tensor, _ unet: UNetRun) throws(Cancelled) -> Tensor {
    let run = unet.tokens(of: x)
    let time = timeEmbProj(unet.time, run.along(.none))  // [B, C']
    let inner = conv1(norm1(x, over: extent, frames: unet.frames, activation: .silu), run)
    try run.checkpoint()
    let skip =
      if let convShortcut { convShortcut(unet.asTokens(x), run).reshaped(inner.shape) } else { x }
    let outer = norm2(inner, over: extent, frames: unet.frames, activation: .silu, adding: time)
    let result = conv2(outer, adding: skip, run)
    try run.checkpoint()
    return result
  }
}
