import DiffusionLayers
import TensorCore

/// A stage of the encoder or decoder.
enum KLStage: Sendable {
  case convolution(KLConvolution)
  case residual(KLResidualBlock)
  case attention(KLAttentionBlock)
  /// Halves rows and columns.
  case down(KLConvolution)
  /// Doubles rows and columns.
  case up(KLConvolution)
  /// `conv(silu(norm(x)))`
  case head(GroupNorm, KLConvolution)

  func callAsFunction(_ x: Tensor, _ run: RunContext) throws(Cancelled) -> Tensor {
    switch self {
    case .convolution(let layer), .down(let layer): try layer(x, run)
    case .residual(let block): try block(x, run)
    case .attention(let block): try block(x, run)
    case .up(let layer): try layer.upsampling(x, run)
    case .head(let norm, let layer): try layer(norm(x, activation: .silu), run)
    }
  }
}

/// The encoder or the decoder: stages that a picture passes one after another.
struct KLNetwork: Sendable {
  let stages: [KLStage]

  /// `Encoder`: pictures to moments `[1, h, w, 2 latentChannels]`.
  init(encoder weights: Weights, _ config: AutoencoderKLConfig) throws(WeightsError) {
    let (dims, groups) = (config.blockOutChannels, config.normNumGroups)
    var stages: [KLStage] = [.convolution(try KLConvolution(weights["conv_in"], 3, dims[0]))]
    var channels = dims[0]
    for (level, outputs) in dims.enumerated() {
      let block = weights["down_blocks"][level]
      for index in 0..<config.layersPerBlock {
        stages.append(
          .residual(try KLResidualBlock(block["resnets"][index], channels, outputs, groups: groups)))
        channels = outputs
      }
      if level + 1 < dims.count {
        stages.append(
          .down(
            try KLConvolution(block["downsamplers"][0]["conv"], channels, channels, halving: true)))
      }
    }
    stages += try Self.middle(weights["mid_block"], channels, config)
    stages.append(
      .head(
        try GroupNorm(weights["conv_norm_out"], groups: groups, channels, eps: 1e-6),
        try KLConvolution(weights["conv_out"], channels, 2 * config.latentChannels)))
    self.stages = stages
  }

  /// `Decoder`: latents to pictures `[1, H, W, 3]`.
  init(decoder weights: Weights, _ config: AutoencoderKLConfig) throws(WeightsError) {
    let (dims, groups) = (Array(config.blockOutChannels.reversed()), config.normNumGroups)
    var stages: [KLStage] = [
      .convolution(try KLConvolution(weights["conv_in"], config.latentChannels, dims[0]))
    ]
    var channels = dims[0]
    stages += try Self.middle(weights["mid_block"], channels, config)
    for (level, outputs) in dims.enumerated() {
      let block = weights["up_blocks"][level]
      for index in 0...config.layersPerBlock {
        stages.append(
          .residual(try KLResidualBlock(block["resnets"][index], channels, outputs, groups: groups)))
        channels = outputs
      }
      if level + 1 < dims.count {
        stages.append(.up(try KLConvolution(block["upsamplers"][0]["conv"], channels, channels)))
      }
    }
    stages.append(
      .head(
        try GroupNorm(weights["conv_norm_out"], groups: groups, channels, eps: 1e-6),
        try KLConvolution(weights["conv_out"], channels, 3)))
    self.stages = stages
  }

  private static func middle(
    _ weights: Weights, _ channels: Int, _ config: AutoencoderKLConfig
  ) throws(WeightsError) -> [KLStage] {
    func residual(_ index: Int) throws(WeightsError) -> KLStage {
      .residual(
        try KLResidualBlock(weights["resnets"][index], channels, channels, groups: config.normNumGroups))
    }
    var stages = [try residual(0)]
    if config.midBlockAddAttention {
      stages.append(
        .attention(
          try KLAttentionBlock(weights["attentions"][0], channels, groups: config.normNumGroups)))
    }
    stages.append(try residual(1))
    return stages
  }

  /// One picture `[1, H, W, C]` through all stages.
  func callAsFunction(_ picture: Tensor, _ run: RunContext) throws(Cancelled) -> Tensor {
    var x = picture
    for stage in stages { x = try stage(x, run) }
    return x
  }
}
