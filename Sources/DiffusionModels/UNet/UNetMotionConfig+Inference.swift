public import DiffusionLayers

extension UNetMotionConfig {
  /// The configuration of a checkpoint from the shapes of its tensors, under diffusers' names.
  ///
  /// - Parameters:
  ///   - heads: attention heads of every level, which no shape tells; 8 as in SD1.5 by default.
  ///   - groups: of the norms; 32 as in SD1.5 by default.
  /// - Throws: `ConfigError` naming the tensor that does not fit.
  public init(inferredFrom source: any WeightSource, heads: Int = 8, groups: Int = 32) throws(ConfigError) {
    func shape(_ tensor: String, rank: ClosedRange<Int>) throws(ConfigError) -> [Int] {
      guard let shape = source.shape(of: tensor), rank.contains(shape.count),
        shape.allSatisfy({ (1...1_000_000).contains($0) })
      else {
        throw ConfigError(
          file: source.name, key: tensor,
          reason: "is missing or of another shape than in a Stable Diffusion UNet")
      }
      return shape
    }
    func count(_ tensor: (Int) -> String) -> Int {
      var count = 0
      while count < 64, source.contains(tensor(count)) { count += 1 }
      return count
    }
    let levels = count { "down_blocks.\($0).resnets.0.conv1.weight" }
    let layers = count { "down_blocks.0.resnets.\($0).conv1.weight" }
    guard levels > 0 else {
      throw ConfigError(
        file: source.name, key: "down_blocks.0.resnets.0.conv1.weight",
        reason: "is missing: the file holds no Stable Diffusion UNet")
    }
    var channels: [Int] = []
    for level in 0..<levels {
      channels.append(try shape("down_blocks.\(level).resnets.0.conv1.weight", rank: 4...4)[0])
    }
    func types(_ way: String, _ blocks: String) -> JSONValue {
      .array(
        (0..<levels).map { level in
          let attends = source.contains("\(blocks).\(level).attentions.0.norm.weight")
          return .string((attends ? "CrossAttn" : "") + "\(way)Block2D")
        })
    }
    let attention = "mid_block.attentions.0."
    let projection = try shape(attention + "proj_in.weight", rank: 2...4)
    let config: JSONValue = .object([
      "_class_name": .string("UNet2DConditionModel"),
      "in_channels": .integer(try shape("conv_in.weight", rank: 4...4)[1]),
      "out_channels": .integer(try shape("conv_out.weight", rank: 4...4)[0]),
      "block_out_channels": .array(channels.map(JSONValue.integer)),
      "layers_per_block": .integer(layers),
      "down_block_types": types("Down", "down_blocks"), "up_block_types": types("Up", "up_blocks"),
      "attention_head_dim": .integer(heads), "norm_num_groups": .integer(groups),
      "transformer_layers_per_block": .integer(count { attention + "transformer_blocks.\($0).norm1.weight" }),
      "cross_attention_dim": .integer(
        try shape(attention + "transformer_blocks.0.attn2.to_k.weight", rank: 2...2)[1]),
      "use_linear_projection": .bool(projection.count == 2),
    ])
    try self.init(image: config, file: source.name)
    motion = Motion(maxSeqLength: 32)
    motion.numAttentionHeads = [Int](repeating: heads, count: levels)
  }

  /// The same with the motion modules of a file, as their tensors tell.
  ///
  /// Files with the official repository's names get the norms of its code: over one frame in the modules and, from v2 on,
  /// in the residual blocks, whose norms v1 takes over the clip.
  /// - Parameters:
  ///   - source: the file under its own names.
  ///   - heads: of every level; 8 in all released modules.
  /// - Throws: `ConfigError` naming the tensor that does not fit.
  public func with(motion source: any WeightSource, _ naming: MotionModuleNaming, heads: Int = 8)
    throws(ConfigError) -> UNetMotionConfig
  {
    let renamed = try naming.renamed(source)
    func block(_ name: String, _ module: Int, _ layer: Int) -> String {
      "\(name).motion_modules.\(module).transformer_blocks.\(layer).norm1.weight"
    }
    var layers = 0
    while layers < 16, renamed.contains(block("down_blocks.0", 0, layers)) { layers += 1 }
    guard layers > 0 else {
      throw ConfigError(
        file: source.name, key: block("down_blocks.0", 0, 0), reason: "is missing among the motion modules")
    }
    var config = self
    config.motion = Motion(maxSeqLength: 32)
    config.motion.numAttentionHeads = [Int](repeating: heads, count: blockOutChannels.count)
    config.motion.transformerLayersPerBlock = layers
    config.motion.hasMidBlock = renamed.contains(block("mid_block", 0, 0))
    let frames = naming.frames(of: source)
    // Modules without positions in their files are AnimateLCM's kind.
    config.motion.maxSeqLength = frames ?? 64
    guard (1...4096).contains(config.motion.maxSeqLength) else {
      throw ConfigError(file: source.name, key: "pos_encoder.pe", reason: "has no place for frames")
    }
    config.motion.norm = naming.isOriginal ? .frame : .clip
    if naming.isOriginal, frames == 24, !config.motion.hasMidBlock { config.resnetNorm = .clip }
    try config.check(config.motion.numAttentionHeads, source)
    return config
  }

  /// Throws unless each level's heads divide its channels.
  private func check(_ heads: [Int], _ source: any WeightSource) throws(ConfigError) {
    for (channels, heads) in zip(blockOutChannels, heads) where channels % heads != 0 {
      throw ConfigError(
        file: source.name, key: "motion_modules",
        reason: "would have \(heads) heads, which do not divide the \(channels) channels of a block")
    }
  }

  /// Throws where the weights, under diffusers' names, hold more than this configuration: a part of the model would be
  /// left out.
  /// - Parameter file: of the configuration.
  public func check(against source: any WeightSource, file: String) throws(ConfigError) {
    let levels = blockOutChannels.count
    let (layers, modules) = (transformerLayersPerBlock, motion.transformerLayersPerBlock)
    let more: [(String, String)] = [
      ("down_block_types", "down_blocks.\(levels).resnets.0.conv1.weight"),
      ("layers_per_block", "down_blocks.0.resnets.\(layersPerBlock).conv1.weight"),
      (
        "transformer_layers_per_block",
        "mid_block.attentions.0.transformer_blocks.\(layers).norm1.weight"
      ),
      ("motion_layers_per_block", "down_blocks.0.motion_modules.\(layersPerBlock).norm.weight"),
      (
        "motion_transformer_layers_per_block",
        "down_blocks.0.motion_modules.0.transformer_blocks.\(modules).norm1.weight"
      ),
    ]
    for (key, tensor) in more where source.contains(tensor) {
      throw ConfigError(
        file: file, key: key,
        reason: "says less than the weights hold ('\(tensor)'); take the config.json that came with them")
    }
    if !motion.hasMidBlock, source.contains("mid_block.motion_modules.0.norm.weight") {
      throw ConfigError(
        file: file, key: "use_motion_mid_block",
        reason: "is false, and the weights hold one; take the config.json that came with them")
    }
    for (level, attends) in downAttention.enumerated()
    where !attends && source.contains("down_blocks.\(level).attentions.0.norm.weight") {
      throw ConfigError(
        file: file, key: "down_block_types",
        reason: "has block \(level) without the attention that the weights hold")
    }
    for (level, attends) in upAttention.enumerated()
    where !attends && source.contains("up_blocks.\(level).attentions.0.norm.weight") {
      throw ConfigError(
        file: file, key: "up_block_types",
        reason: "has block \(level) without the attention that the weights hold")
    }
  }
}
