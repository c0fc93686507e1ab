public import DiffusionLayers

/// Shape of a Stable Diffusion UNet with motion modules between its layers: the keys of `unet/config.json` (diffusers'
/// `UNet2DConditionModel`) and of `motion_adapter/config.json` (`MotionAdapter`), or of the `UNetMotionModel` that holds
/// both.
public struct UNetMotionConfig: Sendable, Equatable {
  public var inChannels: Int
  public var outChannels: Int
  /// Channels of each level, the finest first.
  public var blockOutChannels: [Int]
  /// Residual blocks of each level on the way down; one more on the way up.
  public var layersPerBlock: Int
  /// Which levels have attention on the way down, and on the way up (the coarsest first).
  public var downAttention: [Bool]
  public var upAttention: [Bool]
  /// Heads of each level's attention. The file calls this number `attention_head_dim`.
  public var numAttentionHeads: [Int]
  public var transformerLayersPerBlock: Int
  /// Width of the text embeddings.
  public var crossAttentionDim: Int
  public var useLinearProjection: Bool
  public var normNumGroups: Int
  public var normEps: Float
  /// Latent rows and columns that the model was trained for.
  public var sampleSize: Int
  /// Over what the norms of the residual blocks are taken.
  public var resnetNorm: NormExtent = .frame
  public var motion: Motion

  /// Over what a group norm is taken: the pixels of a frame or of all frames of a clip.
  public enum NormExtent: Sendable, Equatable { case frame, clip }

  /// The motion modules.
  public struct Motion: Sendable, Equatable {
    /// Heads of each level's attention over frames.
    public var numAttentionHeads: [Int]
    public var transformerLayersPerBlock: Int
    /// Frames that there are positions for.
    public var maxSeqLength: Int
    /// Whether the middle block has a module (v2).
    public var hasMidBlock: Bool
    /// Over what the modules' norms are taken: a frame in the official code, a clip in diffusers.
    public var norm: NormExtent
  }

  /// Reads and checks the configurations of an image model and of its motion adapter.
  /// - Throws: `ConfigError` naming the key that is missing, out of range, not supported, or at odds with another.
  public init(unet: JSONValue, file: String, motion: JSONValue, motionFile: String) throws(ConfigError) {
    let config = try ConfigReader(unet, file: file)
    try config.expect("_class_name", "UNet2DConditionModel")
    let adapter = try ConfigReader(motion, file: motionFile)
    try adapter.expect("_class_name", "MotionAdapter", allowMissing: true)
    try adapter.allow(UNetKeys.adapter, prefix: "motion_")
    if !adapter.isNull("conv_in_channels") {
      throw adapter.invalid(
        "conv_in_channels", "marks a PIA adapter, which starts from a picture; use another")
    }
    try self.init(config, motion: Motion(maxSeqLength: 32))
    let levels = blockOutChannels.count
    guard try adapter.integers("block_out_channels", in: 1...65536, count: levels) == blockOutChannels else {
      throw adapter.invalid("block_out_channels", "is not that of the UNet, \(blockOutChannels)")
    }
    let layers = try adapter.integers("motion_layers_per_block", in: 1...16, count: levels, default: 2)
    guard layers.allSatisfy({ $0 == layersPerBlock }) else {
      throw adapter.invalid(
        "motion_layers_per_block", "is not the UNet's layers_per_block, \(layersPerBlock)")
    }
    guard try adapter.integer("motion_norm_num_groups", in: 1...1024, default: 32) == normNumGroups else {
      throw adapter.invalid("motion_norm_num_groups", "is not the UNet's norm_num_groups, \(normNumGroups)")
    }
    try adapter.only("motion_mid_block_layers_per_block", 1)
    try adapter.only("motion_transformer_layers_per_mid_block", 1)
    self.motion.numAttentionHeads = try adapter.integers(
      "motion_num_attention_heads", in: 1...1024, count: levels, default: 8)
    self.motion.transformerLayersPerBlock = try adapter.same(
      "motion_transformer_layers_per_block", in: 1...16, count: levels, default: 1)
    self.motion.maxSeqLength = try adapter.integer("motion_max_seq_length", in: 1...4096, default: 32)
    self.motion.hasMidBlock = try adapter.bool("use_motion_mid_block", default: true)
    try check(self.motion.numAttentionHeads, adapter, "motion_num_attention_heads")
  }

  /// Reads and checks the configuration of a `UNetMotionModel`, which holds the motion modules too.
  public init(merged json: JSONValue, file: String) throws(ConfigError) {
    let config = try ConfigReader(json, file: file)
    try config.expect("_class_name", "UNetMotionModel")
    try self.init(config, motion: Motion(maxSeqLength: 32))
    let levels = blockOutChannels.count
    try config.only("mid_block_layers", 1)
    try config.only("temporal_transformer_layers_per_mid_block", 1)
    motion.numAttentionHeads = try config.integers(
      "motion_num_attention_heads", in: 1...1024, count: levels, default: 8)
    motion.transformerLayersPerBlock = try config.same(
      "temporal_transformer_layers_per_block", in: 1...16, count: levels, default: 1)
    motion.maxSeqLength = try config.integer("motion_max_seq_length", in: 1...4096, default: 32)
    motion.hasMidBlock = try config.bool("use_motion_mid_block", default: true)
    try check(motion.numAttentionHeads, config, "motion_num_attention_heads")
  }

  /// The image model's part alone; the motion modules' is to be filled in.
  public init(image json: JSONValue, file: String) throws(ConfigError) {
    let config = try ConfigReader(json, file: file)
    try config.expect("_class_name", "UNet2DConditionModel")
    try self.init(config, motion: Motion(maxSeqLength: 32))
  }

  /// The image model's part.
  private init(_ config: ConfigReader, motion: Motion) throws(ConfigError) {
    try config.allow(UNetKeys.unet, prefix: "")
    for (key, values) in UNetKeys.fixed { try config.only(key, values) }
    let types = try config.strings("down_block_types")
    let levels = types.count
    guard (1...8).contains(levels) else { throw config.invalid("down_block_types", "must be 1 to 8 blocks") }
    downAttention = try config.attention("down_block_types", "Down", count: levels)
    upAttention = try config.attention("up_block_types", "Up", count: levels)
    blockOutChannels = try config.integers("block_out_channels", in: 1...65536, count: levels)
    inChannels = try config.integer("in_channels", in: 1...1024, default: 4)
    outChannels = try config.integer("out_channels", in: 1...1024, default: 4)
    layersPerBlock = try config.same("layers_per_block", in: 1...16, count: levels, default: 2)
    transformerLayersPerBlock = try config.same(
      "transformer_layers_per_block", in: 1...16, count: levels, default: 1)
    crossAttentionDim = try config.same("cross_attention_dim", in: 1...65536, count: levels, default: nil)
    let headsKey = config.isNull("num_attention_heads") ? "attention_head_dim" : "num_attention_heads"
    numAttentionHeads = try config.integers(headsKey, in: 1...1024, count: levels, default: 8)
    useLinearProjection = try config.bool("use_linear_projection", default: false)
    normNumGroups = try config.integer("norm_num_groups", in: 1...1024, default: 32)
    normEps = Float(try config.number("norm_eps", default: 1e-5))
    sampleSize = try config.integer("sample_size", in: 1...4096, default: 64)
    self.motion = motion
    guard normEps > 0, normEps < 1 else { throw config.invalid("norm_eps", "must be above 0") }
    for channels in blockOutChannels {
      guard channels % normNumGroups == 0 else {
        throw config.invalid(
          "norm_num_groups", "is \(normNumGroups), which does not divide the \(channels) channels of a block")
      }
      guard channels % 2 == 0 else {
        throw config.invalid("block_out_channels", "has \(channels), which is odd")
      }
    }
    try check(numAttentionHeads, config, headsKey)
  }

  /// Throws unless each level's heads divide its channels.
  private func check(_ heads: [Int], _ config: ConfigReader, _ key: String) throws(ConfigError) {
    for (channels, heads) in zip(blockOutChannels, heads) where channels % heads != 0 {
      throw config.invalid(key, "is \(heads), which does not divide the \(channels) channels of a block")
    }
  }
}

extension UNetMotionConfig.Motion {
  init(maxSeqLength: Int) {
    self.init(
      numAttentionHeads: [], transformerLayersPerBlock: 1, maxSeqLength: maxSeqLength, hasMidBlock: false,
      norm: .clip)
  }
}
