public import DiffusionLayers
public import TensorCore

// Reference: diffusers, models/unets/unet_motion_model.py. Names of weights are those of its checkpoints.

/// A layer of a block: a residual block, attention where the level has it, a motion module where there is one.
struct UNetLayer: Sendable {
  let resnet: ResnetBlock2D
  let attention: SpatialTransformer?
  let motion: MotionModule?

  func callAsFunction(_ x: Tensor, prompt: UNetPrompt, _ unet: UNetRun) throws(Cancelled) -> Tensor {
    guard unet.run.recomputesActivations else { return try plain(x, prompt, unet) }
    var again = unet
    again.run.cancellation = nil
    let places = attention.map { Array($0.places) } ?? []
    let keys = places.flatMap { [prompt.blocks[$0].key, prompt.blocks[$0].value] }
    @Sendable func run(_ inputs: [Tensor], _ unet: UNetRun) throws(Cancelled) -> Tensor {
      var unet = unet
      unet.time = inputs[1]
      return try plain(inputs[0], prompt.replacing(places, with: Array(inputs[2...])), unet)
    }
    return try Tensor.checkpoint([x, unet.time] + keys) { inputs throws(Cancelled) in
      try run(inputs, unet)
    } again: { [again] inputs in
      guard let y = try? run(inputs, again) else {
        preconditionFailure("a run without a cancellation was cancelled")
      }
      return y
    }
  }

  private func plain(_ x: Tensor, _ prompt: UNetPrompt, _ unet: UNetRun) throws(Cancelled) -> Tensor {
    var x = try resnet(x, unet)
    if let attention { x = try attention(x, prompt: prompt, unet) }
    if let motion { x = try motion(x, unet) }
    return x
  }
}

/// A level on the way down: layers, then half the size.
struct UNetDownBlock: Sendable {
  let layers: [UNetLayer]
  let downsampler: Conv2D?

  /// Adds the result of every layer to `skips`.
  /// - Parameter done: layers that have been run, which `skips` holds the results of.
  func callAsFunction(
    _ x: Tensor, skips: inout [Tensor], done: Int = 0, prompt: UNetPrompt, _ unet: UNetRun
  ) throws(Cancelled) -> Tensor {
    var x = x
    for layer in layers[done...] {
      x = try layer(x, prompt: prompt, unet)
      skips.append(x)
    }
    guard let downsampler else { return x }
    x = downsampler(x, unet.tokens(of: x))
    skips.append(x)
    return x
  }
}

/// The middle: a residual block, attention, frames, and another residual block.
struct UNetMidBlock: Sendable {
  let first: UNetLayer
  let last: ResnetBlock2D
}

/// A level on the way up: layers that each take a result of the way down, then the size of the level above.
struct UNetUpBlock: Sendable {
  let layers: [UNetLayer]
  let upsampler: Conv2D?

  func callAsFunction(_ x: Tensor, skips: inout [Tensor], prompt: UNetPrompt, _ unet: UNetRun)
    throws(Cancelled) -> Tensor
  {
    var x = x
    for layer in layers {
      x = try layer(Tensor.concatenated([x, skips.removeLast()], axis: 3), prompt: prompt, unet)
    }
    guard let upsampler, let next = skips.last else { return x }
    // Twice the size, or what an odd size was halved from.
    x = upsampler.upsampling(
      x, height: next.shape[1], width: next.shape[2], unet.run.along(.frames(perFrame: 1)))
    try unet.run.checkpoint()
    return x
  }
}

/// The AnimateDiff denoiser: a Stable Diffusion UNet over the frames of a clip, with motion modules that look across them.
///
/// Frames are the batch of its convolutions; pictures keep their channels side by side, so that they are tokens without a
/// transposition.
public struct UNetMotionModel: Sendable {
  public let config: UNetMotionConfig
  let convIn: Conv2D
  let timeEmbedding: TimestepEmbedding
  let downBlocks: [UNetDownBlock]
  let midBlock: UNetMidBlock
  let upBlocks: [UNetUpBlock]
  let convNormOut: GroupNorm
  let convOut: Conv2D

  /// Builds the model from a checkpoint in diffusers' naming: those of the image model and of the motion modules at one
  /// cursor.
  public init(_ weights: Weights, _ config: UNetMotionConfig) throws(WeightsError) {
    self.config = config
    let channels = config.blockOutChannels
    let levels = channels.count
    var prompts = 0
    func layer(
      _ block: Weights, _ index: Int, level: Int, _ inputs: Int, attends: Bool, moves: Bool
    ) throws(WeightsError) -> UNetLayer {
      let dim = channels[level]
      return UNetLayer(
        resnet: try ResnetBlock2D(block["resnets"][index], inputs, dim, config),
        attention: attends
          ? try SpatialTransformer(
            block["attentions"][index], dim, heads: config.numAttentionHeads[level], config, index: &prompts)
          : nil,
        motion: moves
          ? try MotionModule(
            block["motion_modules"][index], dim, heads: config.motion.numAttentionHeads[level], config) : nil)
    }
    convIn = try Conv2D(weights["conv_in"], config.inChannels, channels[0])
    timeEmbedding = try TimestepEmbedding(weights["time_embedding"], channels[0], config.timeEmbedDim)

    // What each result of the way down has in channels, for the way up.
    var skips = [channels[0]]
    var downBlocks: [UNetDownBlock] = []
    for level in 0..<levels {
      let block = weights["down_blocks"][level]
      var layers: [UNetLayer] = []
      for index in 0..<config.layersPerBlock {
        let inputs = index == 0 ? channels[max(0, level - 1)] : channels[level]
        layers.append(
          try layer(block, index, level: level, inputs, attends: config.downAttention[level], moves: true))
        skips.append(channels[level])
      }
      let isLast = level == levels - 1
      let sampler =
        isLast
        ? nil : try Conv2D(block["downsamplers"][0]["conv"], channels[level], channels[level], stride: 2)
      if !isLast { skips.append(channels[level]) }
      downBlocks.append(UNetDownBlock(layers: layers, downsampler: sampler))
    }
    self.downBlocks = downBlocks

    let (mid, coarsest) = (weights["mid_block"], channels[levels - 1])
    midBlock = UNetMidBlock(
      first: try layer(
        mid, 0, level: levels - 1, coarsest, attends: true, moves: config.motion.hasMidBlock),
      last: try ResnetBlock2D(mid["resnets"][1], coarsest, coarsest, config))

    var upBlocks: [UNetUpBlock] = []
    var current = coarsest
    for step in 0..<levels {
      let (block, level) = (weights["up_blocks"][step], levels - 1 - step)
      var layers: [UNetLayer] = []
      for index in 0...config.layersPerBlock {
        layers.append(
          try layer(
            block, index, level: level, current + skips.removeLast(), attends: config.upAttention[step],
            moves: true))
        current = channels[level]
      }
      upBlocks.append(
        UNetUpBlock(
          layers: layers,
          upsampler: level == 0 ? nil : try Conv2D(block["upsamplers"][0]["conv"], current, current)))
    }
    self.upBlocks = upBlocks
    convNormOut = try GroupNorm(
      weights["conv_norm_out"], groups: config.normNumGroups, channels[0], eps: config.normEps)
    convOut = try Conv2D(weights["conv_out"], channels[0], config.outChannels)
  }

  /// The cross-attentions in the order of a prompt's parts.
  var crossAttentions: [UNetAttention] {
    let layers = downBlocks.flatMap(\.layers) + [midBlock.first] + upBlocks.flatMap(\.layers)
    return layers.compactMap(\.attention).flatMap(\.transformer.blocks).map(\.attn2)
  }

  /// Predicts the noise in `latents` `[B, C, F, H, W]` at `timesteps` (one per batch entry) given a prompt prepared for as
  /// many entries, at the strengths of `run`. `F` is at most `config.motion.maxSeqLength`.
  public func callAsFunction(
    _ latents: Tensor, timesteps: [Float], prompt: UNetPrompt, _ run: RunContext
  ) throws(Cancelled) -> Tensor {
    var cache = FirstBlockCache()
    return try self(latents, timesteps: timesteps, prompt: prompt, run, cache: &cache)
  }

  /// The same with a clip's memory of its steps. Its first block is the first layer of the way down; what the memory holds
  /// of the others is the difference from there to the last norm, which has the same extent.
  public func callAsFunction(
    _ latents: Tensor, timesteps: [Float], prompt: UNetPrompt, _ run: RunContext, cache: inout FirstBlockCache
  ) throws(Cancelled) -> Tensor {
    let (batch, frames) = (latents.shape[0], latents.shape[2])
    precondition(
      frames <= config.motion.maxSeqLength && timesteps.count == batch,
      "latents \(latents.shape) at \(timesteps.count) times, for at most \(config.motion.maxSeqLength) frames"
    )
    let time = timeEmbedding(
      timestepEmbedding(timesteps, channels: config.blockOutChannels[0]), run.along(.none))
    let unet = UNetRun(frames: frames, time: time.silu(), run: run)

    // [B * F, H, W, C]
    let input = latents.permuted([0, 2, 3, 4, 1])
      .reshaped([batch * frames, latents.shape[3], latents.shape[4], latents.shape[1]])
    let start = convIn(input, unet.tokens(of: input))
    let extent = [-1] + start.shape[1...]
    let pieces = UNetPieces(batch, tokens: start.count / config.blockOutChannels[0], prompt, unet)
    let hidden = try cache.run(unet.asTokens(start)) { tokens throws(Cancelled) in
      try pieces.joined([tokens]) { inputs, prompt, unet throws(Cancelled) in
        unet.asTokens(try downBlocks[0].layers[0](inputs[0].reshaped(extent), prompt: prompt, unet))
      }
    } others: { tokens throws(Cancelled) in
      try pieces.joined([unet.asTokens(start), tokens]) { inputs, prompt, unet throws(Cancelled) in
        unet.asTokens(
          try behindFirstLayer(inputs[1].reshaped(extent), start: inputs[0].reshaped(extent), prompt, unet))
      }
    }
    var x = hidden.reshaped(start.shape)
    x = convNormOut(x, over: config.resnetNorm, frames: frames, activation: .silu)
    x = convOut(x, unet.tokens(of: x))
    return x.reshaped([batch, frames] + x.shape[1...]).permuted([0, 4, 1, 2, 3]).contiguous()
  }

  /// All layers but the first of the way down, whose result is `x`; `start` is what went into that.
  private func behindFirstLayer(_ x: Tensor, start: Tensor, _ prompt: UNetPrompt, _ unet: UNetRun)
    throws(Cancelled) -> Tensor
  {
    var (x, skips) = (x, [start, x])
    for (level, block) in downBlocks.enumerated() {
      x = try block(x, skips: &skips, done: level == 0 ? 1 : 0, prompt: prompt, unet)
    }
    x = try midBlock.first(x, prompt: prompt, unet)
    x = try midBlock.last(x, unet)
    for block in upBlocks { x = try block(x, skips: &skips, prompt: prompt, unet) }
    return x
  }
}

extension UNetMotionConfig {
  /// Width of the time embedding.
  var timeEmbedDim: Int { 4 * blockOutChannels[0] }
}
