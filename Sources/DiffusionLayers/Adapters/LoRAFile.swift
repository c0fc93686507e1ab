import Glibc

/// One adapted layer of a LoRA file, checked, not loaded yet.
public struct LoRALayer: Sendable, Equatable {
  /// The layer's path in the model, such as `blocks.3.attn1.to_q`.
  public let module: String
  public let rank: Int
  /// Width of the layer's input.
  public let inputs: Int
  /// Width of the layer's output.
  public let outputs: Int
  /// The factor of the update, from `rule`.
  public let scale: Float
  public let rule: LoRAAlphaRule
  let downKey: String
  let upKey: String
  let alphaKey: String?

  /// How many of the file's keys belong to it.
  var keyCount: Int { alphaKey == nil ? 2 : 3 }
}

/// A LoRA file whose header, pairs, ranks and alphas have been checked. The matrices are read by `match`.
public struct LoRAFile: Sendable {
  /// The file, for messages.
  public let name: String
  public let dialect: LoRADialect
  /// The adapted layers, ordered by path.
  public let layers: [LoRALayer]
  /// Keys that are no part of a low-rank pair.
  public let otherKeys: [String]
  /// The header's entries, in file order.
  public var metadata: [(String, String)] { tensors.metadata }
  /// Number of tensors in the file.
  public var totalKeys: Int { tensors.entries.count }
  let tensors: SafetensorsFile

  /// Opens a `.safetensors` file, a folder with a PEFT or diffusers adapter, or `builtin:NAME`.
  ///
  /// An `adapter_config.json` beside the file is read. `alphaOverRank` replaces every stored alpha.
  public init(path: String, alphaOverRank: Float? = nil) throws(LoRAError) {
    let file = try Self.file(in: path)
    let source: ByteSource
    var sidecar: JSONObject?
    do throws(WeightsError) {
      source = try ByteSource.open(file)
      if case .file = source {
        let folder = file.lastIndex(of: "/").map { String(file[...$0]) } ?? "./"
        let directory = try ModelDirectory(folder)
        if directory.exists("adapter_config.json") { sidecar = try directory.json("adapter_config.json") }
      }
    } catch {
      throw .file(error)
    }
    try self.init(source: source, sidecar: sidecar, alphaOverRank: alphaOverRank)
  }

  /// Reads an adapter from bytes; `sidecar` is the content of its `adapter_config.json`, if it has one.
  public init(source: ByteSource, sidecar: JSONObject? = nil, alphaOverRank: Float? = nil) throws(LoRAError) {
    do { tensors = try SafetensorsFile(source: source) } catch { throw .file(error) }
    name = tensors.name
    guard let dialect = LoRADialect.detect(tensors.names) else {
      throw .notAnAdapter(file: name, tensors: tensors.entries.count)
    }
    guard dialect.isLoadable else { throw .unsupported(file: name, dialect: dialect) }
    self.dialect = dialect
    if let factor = alphaOverRank {
      try Self.check(scale: Double(factor), file: name, module: "alpha-over-rank")
    }

    var parts: [String: [LoRAKey.Part: String]] = [:]
    var others: [String] = []
    for key in tensors.names.sorted() {
      guard let parsed = LoRAKey(key) else {
        others.append(key)
        continue
      }
      if let first = parts[parsed.module]?[parsed.part] {
        throw .duplicateTarget(file: name, module: parsed.module, first: first, second: key)
      }
      parts[parsed.module, default: [:]][parsed.part] = key
    }
    let hasAlphaTensors = parts.values.contains { $0[.alpha] != nil }
    let settings = alphaOverRank == nil ? try Self.settings(tensors, sidecar, hasAlphaTensors) : nil
    var layers: [LoRALayer] = []
    for (module, keys) in parts.sorted(by: { $0.key < $1.key }) {
      guard let down = keys[.down] else {
        throw .missingHalf(file: name, module: module, missing: "lora_A")
      }
      guard let up = keys[.up] else { throw .missingHalf(file: name, module: module, missing: "lora_B") }
      let shape = try Self.shape(tensors, module, down, up)
      let (scale, rule) = try Self.scale(
        tensors, module, rank: shape.rank, alphaKey: keys[.alpha], settings: settings, override: alphaOverRank
      )
      layers.append(
        LoRALayer(
          module: module, rank: shape.rank, inputs: shape.inputs, outputs: shape.outputs, scale: Float(scale),
          rule: rule, downKey: down, upKey: up, alphaKey: keys[.alpha]))
    }
    self.layers = layers
    otherKeys = others
  }

  /// The metadata value of a key.
  public func metadata(_ key: String) -> String? { tensors.metadata(key) }

  /// The adapter inside a folder, under PEFT's or diffusers' name.
  private static func file(in path: String) throws(LoRAError) -> String {
    var status = stat()
    guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else { return path }
    for name in ["adapter_model.safetensors", "pytorch_lora_weights.safetensors"] {
      let file = path.hasSuffix("/") ? path + name : "\(path)/\(name)"
      if access(file, F_OK) == 0 { return file }
    }
    throw .file(.notARegularFile(file: path, kind: "a folder without adapter_model.safetensors"))
  }

  /// Rank and widths of a pair, checked against each other.
  private static func shape(
    _ tensors: SafetensorsFile, _ module: String, _ downKey: String, _ upKey: String
  ) throws(LoRAError) -> (rank: Int, inputs: Int, outputs: Int) {
    let down = tensors.entries[downKey]?.shape ?? []
    let up = tensors.entries[upKey]?.shape ?? []
    guard down.count == 2 else { throw .notAMatrix(file: tensors.name, tensor: downKey, shape: down) }
    guard up.count == 2 else { throw .notAMatrix(file: tensors.name, tensor: upKey, shape: up) }
    guard down[0] == up[1] else {
      throw .rankMismatch(file: tensors.name, module: module, down: down, up: up)
    }
    guard down[0] >= 1, down[0] <= min(up[0], down[1]) else {
      throw .rank(file: tensors.name, module: module, rank: down[0], out: up[0], in: down[1])
    }
    return (down[0], down[1], up[0])
  }

  /// Settings outside the tensors: the header's, then the sidecar's, then kohya's if no layer has its own
  /// alpha.
  private static func settings(
    _ tensors: SafetensorsFile, _ sidecar: JSONObject?, _ hasAlphaTensors: Bool
  ) throws(LoRAError) -> LoRASettings? {
    do throws(JSONError) {
      if let text = tensors.metadata("lora_adapter_metadata") {
        guard let json = try JSONValue.parse(text, file: "lora_adapter_metadata").object else {
          throw JSONError(
            .wrongType(key: "lora_adapter_metadata", expected: "an object", found: "something else"))
        }
        if let settings = try LoRASettings(json, rule: .header) { return settings }
      }
      if let sidecar, let settings = try LoRASettings(sidecar, rule: .sidecar) { return settings }
    } catch {
      throw .metadata(file: tensors.name, reason: error.description)
    }
    if hasAlphaTensors { return nil }
    return LoRASettings(
      kohyaAlpha: tensors.metadata("ss_network_alpha"), dimension: tensors.metadata("ss_network_dim"))
  }

  /// The factor of one layer and the rule it comes from.
  private static func scale(
    _ tensors: SafetensorsFile, _ module: String, rank: Int, alphaKey: String?, settings: LoRASettings?,
    override: Float?
  ) throws(LoRAError) -> (Double, LoRAAlphaRule) {
    if let override { return (Double(override), .override) }
    var result = (1.0, LoRAAlphaRule.none)
    if let alphaKey {
      do { result = (try tensors.scalar(alphaKey) / Double(rank), .tensor) } catch { throw .file(error) }
    } else if let settings {
      if let stated = settings.rank(of: module), stated != rank {
        throw .rankDisagrees(
          file: tensors.name, module: module, stated: stated, found: rank, origin: settings.rule.name)
      }
      result = (settings.scale(of: module, rank: rank), settings.rule)
    }
    try check(scale: result.0, file: tensors.name, module: module)
    return result
  }

  /// Refuses factors that no training writes: NaN, infinite, zero, negative, or absurdly large.
  private static func check(scale: Double, file: String, module: String) throws(LoRAError) {
    guard scale.isFinite, scale > 0, scale <= 1000 else {
      throw .alpha(file: file, module: module, value: scale)
    }
  }
}
