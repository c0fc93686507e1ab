public import DiffusionLayers

/// Shape of Stable Diffusion's autoencoder: the keys of `vae/config.json` (diffusers' `AutoencoderKL`).
public struct AutoencoderKLConfig: Sendable, Equatable {
  /// Channels of each level, full resolution first.
  public var blockOutChannels: [Int]
  /// Residual blocks of an encoder's level; a decoder's has one more.
  public var layersPerBlock: Int
  /// Channels of a latent.
  public var latentChannels: Int
  /// Groups of every normalisation.
  public var normNumGroups: Int
  /// Latents times this have about unit variance, once `shiftFactor` was taken off.
  public var scalingFactor: Float
  public var shiftFactor: Float
  /// Whether a convolution of extent 1 stands behind the encoder, and before the decoder.
  public var useQuantConv: Bool
  public var usePostQuantConv: Bool
  /// Whether the middle has attention over the pixels.
  public var midBlockAddAttention: Bool

  /// Pixels per latent along each side.
  public var spatialRatio: Int { 1 << (blockOutChannels.count - 1) }

  /// Reads and checks a parsed `config.json`. Keys that are absent take diffusers' defaults.
  /// - Throws: `ConfigError` naming the key that is out of range or not supported.
  public init(_ json: JSONValue, file: String) throws(ConfigError) {
    let config = try ConfigReader(json, file: file)
    try config.expect("_class_name", "AutoencoderKL", allowMissing: true)
    let levels = config.object["block_out_channels"]?.array?.count ?? 0
    guard (1...6).contains(levels) else {
      throw config.invalid("block_out_channels", "must be 1 to 6 whole numbers")
    }
    blockOutChannels = try config.integers("block_out_channels", count: levels, in: 1...4096)
    layersPerBlock = try config.integer("layers_per_block", in: 1...16, default: 1)
    latentChannels = try config.integer("latent_channels", in: 1...256, default: 4)
    normNumGroups = try config.integer("norm_num_groups", in: 1...4096, default: 32)
    scalingFactor = Float(try config.number("scaling_factor", default: 0.18215))
    shiftFactor = Float(try config.number("shift_factor", default: 0))
    useQuantConv = try config.bool("use_quant_conv", default: true)
    usePostQuantConv = try config.bool("use_post_quant_conv", default: true)
    midBlockAddAttention = try config.bool("mid_block_add_attention", default: true)
    guard scalingFactor.isNormal, scalingFactor > 0, shiftFactor.isFinite else {
      throw config.invalid("scaling_factor", "must be above 0")
    }
    for channels in blockOutChannels where channels % normNumGroups != 0 {
      throw config.invalid(
        "norm_num_groups", "is \(normNumGroups), which does not divide the \(channels) channels of a level")
    }
    try config.expect("act_fn", "silu", allowMissing: true)
    for key in ["in_channels", "out_channels"] {
      let channels = try config.integer(key, in: 1...4096, default: 3)
      if channels != 3 {
        throw config.invalid(key, "is \(channels); only pictures of 3 channels are supported")
      }
    }
    for (key, kind) in [("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")]
    where !config.isNull(key) {
      guard let types = config.object[key]?.array, types.count == levels,
        types.allSatisfy({ $0.string == kind })
      else { throw config.invalid(key, "must be \"\(kind)\" for each of the \(levels) levels") }
    }
    for key in ["latents_mean", "latents_std"] where !config.isNull(key) {
      throw config.invalid(key, "is given: latents normalised per channel are not supported")
    }
  }

  /// The shape of a checkpoint from its tensors under diffusers' names; what shapes do not tell is as in Stable
  /// Diffusion.
  /// - Throws: `ConfigError` naming the tensor that does not fit.
  public init(inferredFrom source: any WeightSource) throws(ConfigError) {
    func outputs(_ tensor: String) throws(ConfigError) -> Int {
      guard let shape = source.shape(of: tensor), shape.count == 4, (1...4096).contains(shape[0]) else {
        throw ConfigError(
          file: source.name, key: tensor,
          reason: "is missing or of another shape than in Stable Diffusion's autoencoder")
      }
      return shape[0]
    }
    var channels: [Int] = []
    while channels.count < 7, source.contains("encoder.down_blocks.\(channels.count).resnets.0.conv1.weight")
    {
      channels.append(try outputs("encoder.down_blocks.\(channels.count).resnets.0.conv1.weight"))
    }
    var layers = 1
    while source.contains("encoder.down_blocks.0.resnets.\(layers).conv1.weight") { layers += 1 }
    let latents = try outputs("encoder.conv_out.weight") / 2
    try self.init(
      .object([
        "block_out_channels": .array(channels.map { .integer($0) }), "layers_per_block": .integer(layers),
        "latent_channels": .integer(latents), "norm_num_groups": .integer(32),
        "use_quant_conv": .bool(source.contains("quant_conv.weight")),
        "use_post_quant_conv": .bool(source.contains("post_quant_conv.weight")),
        "mid_block_add_attention": .bool(
          source.contains("encoder.mid_block.attentions.0.group_norm.weight")),
      ]), file: source.name)
  }
}
