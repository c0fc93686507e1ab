import DiffusionLayers
import DiffusionModels
import TensorCore

extension FuzzTarget {
  /// A whole safetensors file, which may be a model without a configuration.
  static let safetensors = FuzzTarget(
    "safetensors",
    words: jsonWords
      + texts(
        "\"dtype\"", "\"shape\"", "\"data_offsets\"", "\"__metadata__\"", "\"F64\"", "\"BOOL\"", "\"BF16\"",
        "\"I64\"",
        "\"t\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},"),
    repair: withHeaderLength
  ) { bytes in
    let file = try SafetensorsFile(source: .memory(name: "input", bytes: bytes))
    try readEverything(file, size: bytes.count)
    // Configurations that single files leave to their shapes.
    let source = try SafetensorsSource(file)
    _ = try? WanConfig(inferredFrom: source)
    _ = try? T5Config(inferredFrom: Weights(source))
  }

  /// The index of a model in several files, beside two shards.
  static let index = FuzzTarget(
    "index",
    words: jsonWords
      + texts(
        "\"weight_map\"", "\"metadata\"", "\"total_size\"", "\"a.safetensors\"", "\"b.safetensors\"",
        "\"../a\"",
        "\"/etc/passwd\"", "\"one.weight\"", "\"two.weight\"", "\"model.safetensors.index.json\"", "\"none\"")
  ) { bytes in
    let folder = shards
    Scratch.write(bytes, to: "sharded/model.safetensors.index.json")
    let source = try SafetensorsSource(try ModelDirectory(folder), component: "")
    for name in source.names {
      guard let shape = source.shape(of: name) else { throw FuzzFailure("'\(name)' has no shape") }
      try require(try source.load(name, shape: shape).shape == shape, "'\(name)' has another shape")
    }
  }

  /// An adapter, matched against a small model.
  static let lora = FuzzTarget(
    "lora",
    words: jsonWords
      + texts(
        "lora_A", "lora_B", "lora_up", "lora_down", ".weight", ".alpha", ".default", "transformer.",
        "diffusion_model.",
        "lora_unet_", "blocks.0.attn1.to_q", "blocks_0_self_attn_q", "self_attn.q", "ffn.net.0.proj",
        "dora_scale",
        "hada_w1_a", "lokr_w1", "diff_b", "diff", "lora_adapter_metadata",
        "{\\\"r\\\":4,\\\"lora_alpha\\\":8}",
        "ss_network_alpha", "ss_network_dim", "\"F16\"", "\"BF16\"", "[4,32]", "[32,4]"),
    repair: withHeaderLength
  ) { bytes in
    let file = try LoRAFile(source: .memory(name: "input", bytes: bytes))
    _ = file.report
    // Writing it in another naming and reading that again.
    let dialects = LoRADialect.allCases
    let path = Scratch.folder + "/merged.safetensors"
    do {
      _ = try LoRAMerge.sum(
        [(file, 0.5), (file, 0.25)], as: dialects[bytes.count % dialects.count], path: path)
      _ = try LoRAFile(path: path).report
    } catch let error as LoRAError {
      try require(!error.description.isEmpty, "a refusal without a reason")
    }
    for isStrict in [false, true] {
      let match = try file.match(against: smallModel, strict: isStrict)
      try require(!match.updates.isEmpty, "a match without updates")
      for (module, update) in match.updates {
        guard let shape = smallModel.shape(of: module + ".weight") else {
          throw FuzzFailure("an update of '\(module)', which is not there")
        }
        switch update.weight {
        case .lowRank(let pair):
          try require(pair.scale.isFinite, "the scale of '\(module)' is \(pair.scale)")
          try require(
            pair.down.shape[1] * pair.up.shape[0] == shape.reduce(1, *),
            "the update of '\(module)' does not fit")
        case .full(let change): try require(change.shape == shape, "the update of '\(module)' does not fit")
        case nil: break
        }
      }
    }
  }

  /// Reads each tensor, which also checks that nothing claims more than the file holds.
  static func readEverything(_ file: SafetensorsFile, size: Int) throws {
    var total = 0
    for name in file.names {
      guard let entry = file.entries[name] else { throw FuzzFailure("'\(name)' has no entry") }
      try require(entry.range.lowerBound >= 8 && entry.range.upperBound <= size, "'\(name)' lies outside")
      total += entry.range.count
      try require(
        entry.shape.reduce(entry.dtype.byteSize, *) == entry.range.count,
        "the shape of '\(name)' does not fit")
      try require(try file.bytes(name).count == entry.range.count, "'\(name)' comes back short")
      if !entry.dtype.isFloatingPoint {
        try require(try file.integers(name).count == entry.count, "'\(name)' comes back short")
      } else if entry.count > 0 {
        try require(
          try file.load(name, checkFinite: false).count == entry.count, "'\(name)' comes back short")
      }
    }
    try require(total <= size, "the tensors are larger than the file")
  }

  /// The layers that adapters are matched against.
  private static let smallModel: ResidentSource = {
    do {
      let file = try SafetensorsFile(
        path: Repository.root + "/Tests/Fixtures/wan_tiny/transformer/diffusion_pytorch_model.safetensors")
      return try ResidentSource(loading: try SafetensorsSource(file))
    } catch {
      fatalError("\(error)")
    }
  }()

  /// The folder of the two shards.
  private static let shards: String = {
    let header = #"{"one.weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#
    Scratch.write(
      littleEndian(header.utf8.count) + Array(header.utf8) + [UInt8](repeating: 1, count: 8),
      to: "sharded/a.safetensors")
    let second = #"{"two.weight":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]}}"#
    Scratch.write(
      littleEndian(second.utf8.count) + Array(second.utf8) + [UInt8](repeating: 1, count: 8),
      to: "sharded/b.safetensors")
    return Scratch.folder + "/sharded"
  }()

  /// Sets the length of a safetensors header to where its JSON ends, if that can be told.
  private static let withHeaderLength: @Sendable ([UInt8]) -> [UInt8] = { bytes in
    guard bytes.count > 10 else { return bytes }
    var (depth, isString, end) = (0, false, 8)
    while end < bytes.count {
      let byte = bytes[end]
      end += 1
      if isString {
        if byte == UInt8(ascii: "\\") { end += 1 } else if byte == UInt8(ascii: "\"") { isString = false }
        continue
      }
      switch byte {
      case UInt8(ascii: "\""): isString = true
      case UInt8(ascii: "{"): depth += 1
      case UInt8(ascii: "}"): depth -= 1
      default: break
      }
      if depth <= 0 { break }
    }
    guard depth <= 0, end <= bytes.count else { return bytes }
    return littleEndian(end - 8) + bytes[8...]
  }
}

/// 8 bytes, the lowest first.
func littleEndian(_ value: Int) -> [UInt8] {
  withUnsafeBytes(of: UInt64(value).littleEndian) { Array($0) }
}
