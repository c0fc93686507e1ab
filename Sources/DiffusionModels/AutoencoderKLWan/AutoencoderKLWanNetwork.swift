import DiffusionLayers
import TensorCore

/// A stage of the encoder or decoder.
enum WanStage: Sendable {
  case convolution(WanCausalConv3d)
  case residual(WanResidualBlock)
  case attention(WanAttentionBlock)
  case down(WanDownsample)
  case up(WanUpsample)
  /// `conv(silu(norm(x)))`
  case head(WanRMSNorm, WanCausalConv3d)

  /// - Returns: one frame; none or two where the frame rate changes.
  func callAsFunction(
    _ x: Tensor, _ memory: inout CausalMemory, _ run: RunContext
  ) throws(Cancelled) -> [Tensor] {
    switch self {
    case .convolution(let layer): [try layer(x, &memory, run)]
    case .residual(let block): [try block(x, &memory, run)]
    case .attention(let block): [try block(x, run)]
    case .down(let layer): try layer(x, &memory, run).map { [$0] } ?? []
    case .up(let layer): try layer(x, &memory, run)
    case .head(let norm, let layer): [try layer(norm(x, activation: .silu), &memory, run)]
    }
  }
}

/// The encoder or the decoder: stages that pass frames on one at a time, so that the working set is that of a
/// single frame.
struct WanNetwork: Sendable {
  let stages: [WanStage]
  let slots: Int

  /// `WanEncoder3d`: pictures to moments `[1, h, w, 2 z]`.
  init(encoder weights: Weights, _ config: AutoencoderKLWanConfig) throws(WeightsError) {
    let dims = config.encoderDims
    var slots = CausalSlots()
    var stages: [WanStage] = [
      .convolution(try WanCausalConv3d(weights["conv_in"], 3, config.baseDim, &slots))
    ]
    var (channels, index) = (config.baseDim, 0)
    for (level, outputs) in dims.enumerated() {
      for _ in 0..<config.numResBlocks {
        stages.append(
          .residual(try WanResidualBlock(weights["down_blocks"][index], channels, outputs, &slots)))
        (channels, index) = (outputs, index + 1)
      }
      if level < dims.count - 1 {
        stages.append(
          .down(
            try WanDownsample(
              weights["down_blocks"][index], channels, temporal: config.temperalDownsample[level], &slots)))
        index += 1
      }
    }
    stages += try Self.middle(weights["mid_block"], channels, &slots)
    stages.append(
      .head(
        try WanRMSNorm(weights["norm_out"], channels),
        try WanCausalConv3d(weights["conv_out"], channels, 2 * config.zDim, &slots)))
    self.stages = stages
    self.slots = slots.count
  }

  /// `WanDecoder3d`: latents to pictures `[1, H, W, 3]`.
  init(decoder weights: Weights, _ config: AutoencoderKLWanConfig) throws(WeightsError) {
    let dims = Array(config.decoderDims.reversed())
    var slots = CausalSlots()
    var channels = dims[0]
    var stages: [WanStage] = [
      .convolution(try WanCausalConv3d(weights["conv_in"], config.zDim, channels, &slots))
    ]
    stages += try Self.middle(weights["mid_block"], channels, &slots)
    for (level, outputs) in dims.enumerated() {
      let block = weights["up_blocks"][level]
      for index in 0...config.numResBlocks {
        stages.append(.residual(try WanResidualBlock(block["resnets"][index], channels, outputs, &slots)))
        channels = outputs
      }
      if level < dims.count - 1 {
        let temporal = config.temperalDownsample[dims.count - 2 - level]
        stages.append(.up(try WanUpsample(block["upsamplers"][0], outputs, temporal: temporal, &slots)))
        channels = outputs / 2
      }
    }
    stages.append(
      .head(
        try WanRMSNorm(weights["norm_out"], channels),
        try WanCausalConv3d(weights["conv_out"], channels, 3, &slots)))
    self.stages = stages
    self.slots = slots.count
  }

  private static func middle(
    _ weights: Weights, _ channels: Int, _ slots: inout CausalSlots
  ) throws(WeightsError) -> [WanStage] {
    [
      .residual(try WanResidualBlock(weights["resnets"][0], channels, channels, &slots)),
      .attention(try WanAttentionBlock(weights["attentions"][0], channels)),
      .residual(try WanResidualBlock(weights["resnets"][1], channels, channels, &slots)),
    ]
  }

  /// Passes one frame through and appends what comes out: one frame, none or several where the frame rate
  /// changes. After an error `memory` is of no more use.
  func push(
    _ frame: Tensor, _ memory: inout CausalMemory, _ run: RunContext, into results: inout [Tensor]
  ) throws(Cancelled) {
    try push(frame, from: 0, &memory, run, into: &results)
  }

  /// Depth first: the frames that a stage makes go through the rest one after another.
  private func push(
    _ frame: Tensor, from first: Int, _ memory: inout CausalMemory, _ run: RunContext,
    into results: inout [Tensor]
  ) throws(Cancelled) {
    var x = frame
    for index in first..<stages.count {
      let made = try stages[index](x, &memory, run)
      if made.count == 1 {
        x = made[0]
        continue
      }
      for frame in made { try push(frame, from: index + 1, &memory, run, into: &results) }
      return
    }
    results.append(x)
  }
}
