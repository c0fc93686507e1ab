import DiffusionLayers

/// The keys of a UNet's configuration that are known, and the values that are supported where there are others.
enum UNetKeys {
  /// Keys with a single meaning here. Null and a missing key stand for the first.
  static let fixed: [(String, [JSONValue])] = [
    ("act_fn", [.string("silu"), .string("swish")]), ("center_input_sample", [.bool(false)]),
    ("flip_sin_to_cos", [.bool(true)]), ("freq_shift", [.integer(0)]), ("downsample_padding", [.integer(1)]),
    ("mid_block_scale_factor", [.integer(1), .number(1)]),
    ("resnet_out_scale_factor", [.number(1), .integer(1)]),
    ("resnet_time_scale_shift", [.string("default")]), ("resnet_skip_time_act", [.bool(false)]),
    ("mid_block_type", [.string("UNetMidBlock2DCrossAttn")]), ("only_cross_attention", [.bool(false)]),
    ("mid_block_only_cross_attention", [.bool(false)]), ("dual_cross_attention", [.bool(false)]),
    ("attention_type", [.string("default")]), ("time_embedding_type", [.string("positional")]),
    ("conv_in_kernel", [.integer(3)]), ("conv_out_kernel", [.integer(3)]),
    ("class_embeddings_concat", [.bool(false)]), ("addition_embed_type", []), ("class_embed_type", []),
    ("num_class_embeds", []), ("encoder_hid_dim", []), ("encoder_hid_dim_type", []),
    ("cross_attention_norm", []), ("time_embedding_dim", []), ("time_embedding_act_fn", []),
    ("timestep_post_act", []), ("time_cond_proj_dim", []), ("projection_class_embeddings_input_dim", []),
    ("reverse_transformer_layers_per_block", []), ("reverse_temporal_transformer_layers_per_block", []),
    ("reverse_motion_num_attention_heads", []), ("transformer_layers_per_mid_block", [.integer(1)]),
  ]

  /// Keys of `UNet2DConditionModel` and `UNetMotionModel` that are read or that change nothing.
  static let unet: Set<String> = Set(fixed.map(\.0)).union([
    "sample_size", "in_channels", "out_channels", "down_block_types", "up_block_types", "block_out_channels",
    "layers_per_block", "dropout", "norm_num_groups", "norm_eps", "cross_attention_dim",
    "transformer_layers_per_block", "attention_head_dim", "num_attention_heads", "use_linear_projection",
    "upcast_attention", "addition_embed_type_num_heads", "addition_time_embed_dim",
    "motion_num_attention_heads", "motion_max_seq_length", "use_motion_mid_block", "mid_block_layers",
    "temporal_transformer_layers_per_block", "temporal_transformer_layers_per_mid_block",
  ])

  /// Keys of `MotionAdapter`.
  static let adapter: Set<String> = [
    "block_out_channels", "motion_layers_per_block", "motion_transformer_layers_per_block",
    "motion_mid_block_layers_per_block", "motion_transformer_layers_per_mid_block",
    "motion_num_attention_heads", "motion_norm_num_groups", "motion_max_seq_length", "use_motion_mid_block",
    "conv_in_channels",
  ]
}

extension ConfigReader {
  /// Throws for a key that is not known and not null: what it changes would be left out.
  func allow(_ known: Set<String>, prefix: String) throws(ConfigError) {
    for key in object.keys where !known.contains(key) && !key.hasPrefix("_") && !isNull(key) {
      if key == prefix + "cross_attention_dim" || key == "motion_module_type" { continue }
      // What `videolora quantize` writes; the files themselves say how their matrices are stored.
      if key == "quantization_config", object[key]?.object?["quant_method"]?.string == "videolora-int8" {
        continue
      }
      throw invalid(
        key, "is not known for a UNet with motion modules, and leaving it out might change results")
    }
  }

  /// Throws unless the key is missing, null, or one of `values`.
  func only(_ key: String, _ values: [JSONValue]) throws(ConfigError) {
    guard !isNull(key), let found = object[key], !values.contains(found) else { return }
    let names = values.compactMap { value in
      value.string.map { "\"\($0)\"" } ?? value.bool.map { "\($0)" } ?? value.int.map { "\($0)" }
    }
    throw invalid(
      key, names.isEmpty ? "is set; only null is supported" : "must be \(names.joined(separator: " or "))")
  }

  /// Throws unless the key is missing, null, `value`, or a list of it.
  func only(_ key: String, _ value: Int) throws(ConfigError) {
    if isNull(key) || object[key]?.int == value { return }
    if let list = object[key]?.array, list.allSatisfy({ $0.int == value }) { return }
    throw invalid(key, "must be \(value)")
  }

  /// `count` numbers, given as a list or as one for all.
  func integers(_ key: String, in range: ClosedRange<Int>, count: Int, default fallback: Int? = nil)
    throws(ConfigError) -> [Int]
  {
    if object[key]?.array != nil { return try integers(key, count: count, in: range) }
    return [Int](repeating: try integer(key, in: range, default: fallback), count: count)
  }

  /// One number, given alone or as a list of `count` equal ones.
  func same(_ key: String, in range: ClosedRange<Int>, count: Int, default fallback: Int?)
    throws(ConfigError) -> Int
  {
    let all = try integers(key, in: range, count: count, default: fallback)
    guard let first = all.first, all.allSatisfy({ $0 == first }) else {
      throw invalid(key, "differs between blocks, which is not supported")
    }
    return first
  }

  func strings(_ key: String) throws(ConfigError) -> [String] {
    guard let list = object[key]?.array, list.allSatisfy({ $0.string != nil }) else {
      throw invalid(key, "must be a list of strings")
    }
    return list.compactMap(\.string)
  }

  /// Which of the blocks on the way down or up have attention.
  func attention(_ key: String, _ way: String, count: Int) throws(ConfigError) -> [Bool] {
    let types = try strings(key)
    guard types.count == count else {
      throw invalid(key, "names \(types.count) blocks, and down_block_types \(count)")
    }
    var result: [Bool] = []
    for type in types {
      switch type {
      case "CrossAttn\(way)Block2D", "CrossAttn\(way)BlockMotion": result.append(true)
      case "\(way)Block2D", "\(way)BlockMotion": result.append(false)
      default:
        throw invalid(
          key, "has \"\(type.prefix(64))\"; only CrossAttn\(way)Block2D and \(way)Block2D are supported")
      }
    }
    return result
  }
}
