public import DiffusionLayers

// Wan's own repository names the tensors of Wan2.1_VAE otherwise than diffusers does; many collections carry
// the file in that naming.

extension AutoencoderKLWan {
  /// Whether tensors of these names are an autoencoder in Wan's original naming.
  public static func isOriginal(_ names: [String]) -> Bool {
    let names = Set(names)
    return ["encoder.conv1.weight", "decoder.head.2.weight", "encoder.downsamples.0.residual.2.weight"]
      .allSatisfy(names.contains)
  }

  /// Builds the model from a checkpoint in Wan's original naming; its configuration follows from the tensors'
  /// shapes, the statistics of its latents are Wan 2.1's.
  /// - Throws: `ConfigError` where the shapes are not those of such a model, `WeightsError` naming the tensor.
  public init(original source: any WeightSource) throws {
    let config = try AutoencoderKLWanConfig(original: source)
    let blocks = config.numResBlocks
    let renamed = RenamedSource(source, names: source.names) {
      OriginalNames.original(of: $0, numResBlocks: blocks)
    }
    try self.init(Weights(renamed), config)
  }
}

/// The original names as data.
private enum OriginalNames {
  /// Modules: diffusers, original.
  private static let modules = [
    ("quant_conv", "conv1"), ("post_quant_conv", "conv2"),
    ("encoder.conv_in", "encoder.conv1"), ("decoder.conv_in", "decoder.conv1"),
    ("encoder.down_blocks", "encoder.downsamples"),
    ("encoder.mid_block.resnets.0", "encoder.middle.0"),
    ("decoder.mid_block.resnets.0", "decoder.middle.0"),
    ("encoder.mid_block.attentions.0", "encoder.middle.1"),
    ("decoder.mid_block.attentions.0", "decoder.middle.1"),
    ("encoder.mid_block.resnets.1", "encoder.middle.2"),
    ("decoder.mid_block.resnets.1", "decoder.middle.2"),
    ("encoder.norm_out", "encoder.head.0"), ("decoder.norm_out", "decoder.head.0"),
    ("encoder.conv_out", "encoder.head.2"), ("decoder.conv_out", "decoder.head.2"),
  ]

  /// Layers of a residual block: diffusers, original.
  private static let layers = [
    "norm1": "residual.0", "conv1": "residual.2", "norm2": "residual.3", "conv2": "residual.6",
    "conv_shortcut": "shortcut",
  ]

  /// The decoder's levels: in the original naming one flat list, at each level the residual blocks, then the
  /// step up.
  private static let levels = (diffusers: "decoder.up_blocks", original: "decoder.upsamples")

  /// Names of other models come back as they are.
  static func original(of name: String, numResBlocks: Int) -> String {
    if let rest = parts(of: name, after: levels.diffusers), rest.count > 3, let level = Int(rest[0]),
      let block = Int(rest[2])
    {
      let index = level * (numResBlocks + 2) + (rest[1] == "resnets" ? block : numResBlocks + 1)
      return ([levels.original, "\(index)"] + rest[3...].map(layer)).joined(separator: ".")
    }
    for (module, original) in modules {
      if let rest = parts(of: name, after: module) {
        return ([original] + rest.map(layer)).joined(separator: ".")
      }
    }
    return name
  }

  private static func layer(_ part: String) -> String { layers[part] ?? part }

  /// The parts of `path` that follow `module`.
  private static func parts(of path: String, after module: String) -> [String]? {
    guard path.hasPrefix(module + ".") else { return nil }
    return path.dropFirst(module.utf8.count + 1).split(separator: ".").map(String.init)
  }
}

extension AutoencoderKLWanConfig {
  /// The configuration of a checkpoint in Wan's original naming, from the shapes of its tensors.
  /// - Throws: `ConfigError` naming the tensor that does not fit.
  init(original source: any WeightSource) throws(ConfigError) {
    func invalid(_ tensor: String, _ reason: String) -> ConfigError {
      ConfigError(file: source.name, key: tensor, reason: reason)
    }
    func extent(_ tensor: String, _ axis: Int) throws(ConfigError) -> Int {
      guard let shape = source.shape(of: tensor), shape.count == 5 else {
        throw invalid(tensor, "is missing or of another rank than in Wan 2.1's autoencoder")
      }
      return shape[axis]
    }
    let base = try extent("encoder.conv1.weight", 0)
    let decoderBase = try extent("decoder.head.2.weight", 1)
    let channels = try extent("conv2.weight", 0)

    // Channels of each level, whether the step below it is temporal, and its number of residual blocks.
    var (levels, temporal, blocks): ([Int], [Bool], [Int]) = ([], [], [0])
    let list = "encoder.downsamples"
    let parts = source.names.filter { $0.hasPrefix(list + ".") }.map { $0.split(separator: ".") }
    for index in 0..<Set(parts.map { $0.dropFirst(2).first }).count {
      let module = "\(list).\(index)"
      if source.contains("\(module).residual.2.weight") {
        if blocks[blocks.count - 1] == 0 { levels.append(try extent("\(module).residual.2.weight", 0)) }
        blocks[blocks.count - 1] += 1
      } else if source.contains("\(module).resample.1.weight") {
        temporal.append(source.contains("\(module).time_conv.weight"))
        blocks.append(0)
      } else {
        throw invalid(module, "is neither a residual block nor a step down, as in Wan 2.1's autoencoder")
      }
    }
    guard blocks[0] > 0, blocks.allSatisfy({ $0 == blocks[0] }), base > 0,
      levels.allSatisfy({ $0 % base == 0 })
    else { throw invalid(list, "are not the levels of Wan 2.1's autoencoder") }
    let integers = { (values: [Int]) in JSONValue.array(values.map { .integer($0) }) }
    let json: JSONValue = .object([
      "base_dim": .integer(base), "decoder_base_dim": .integer(decoderBase), "z_dim": .integer(channels),
      "dim_mult": integers(levels.map { $0 / base }), "num_res_blocks": .integer(blocks[0]),
      "temperal_downsample": .array(temporal.map { .bool($0) }),
    ])
    try self.init(json, file: source.name)
  }
}
