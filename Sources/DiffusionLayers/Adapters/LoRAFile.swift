import Glibc

/// A LoRA file whose header, pairs, ranks and alphas have been checked. The matrices are read by `match`.
public struct LoRAFile: Sendable {
  /// The file, for messages.
  public let name: String
  /// The naming scheme of most of its keys.
  public let dialect: LoRADialect
  /// The adapted layers, ordered by component and path.
  public let layers: [LoRALayer]
  /// Keys that are no part of an update.
  public let otherKeys: [String]
  /// Keys of the strength token.
  let controlKeys: [String]
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
    let tensors: SafetensorsFile
    do { tensors = try SafetensorsFile(source: source) } catch { throw .file(error) }
    self.tensors = tensors
    name = tensors.name
    let (groups, dialects, others) = try LoRAGroup.gather(
      tensors.names, file: name, numbering: CloneofsimoNumbering { tensors.metadata($0) })
    guard let dialect = dialects.max(by: { ($0.value, $1.key.rawValue) < ($1.value, $0.key.rawValue) })?.key
    else { throw .notAnAdapter(file: name, tensors: tensors.entries.count) }
    self.dialect = dialect
    otherKeys = others.filter { !Self.controlNames.contains($0) }
    controlKeys = others.filter { Self.controlNames.contains($0) }

    let factors = try LoRAFactors(
      tensors, sidecar: sidecar, override: alphaOverRank,
      hasAlphaTensors: groups.contains { $0.keys[.alpha] != nil })
    var layers: [LoRALayer] = []
    for group in groups { layers.append(try Self.layer(group, tensors, factors)) }
    self.layers = layers
  }

  /// The metadata value of a key.
  public func metadata(_ key: String) -> String? { tensors.metadata(key) }

  /// The family that most layers belong to, or nil when none is known.
  public var family: LoRAFamily? {
    var votes: [LoRAFamily: Int] = [:]
    for layer in layers {
      for family in layer.families { votes[family, default: 0] += 1 }
    }
    if votes[.animateDiff] != nil { return .animateDiff }
    let most = votes.values.max()
    return LoRAFamily.allCases.first { most != nil && votes[$0] == most }
  }

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

  /// One layer, its shapes checked against each other.
  private static func layer(
    _ group: LoRAGroup, _ tensors: SafetensorsFile, _ factors: LoRAFactors
  ) throws(LoRAError) -> LoRALayer {
    let (name, keys) = (group.name, group.keys)
    let hasPair = keys[.down] != nil || keys[.up] != nil || keys[.upBias] != nil
    var shape = (rank: 0, inputs: 0, outputs: 0)
    var (factor, rule) = (1.0, LoRAAlphaRule.none)
    if let full = keys[.full] {
      let extents = tensors.entries[full]?.shape ?? []
      guard !extents.isEmpty, extents.allSatisfy({ $0 > 0 }) else {
        throw .notAMatrix(file: tensors.name, tensor: full, shape: extents)
      }
      shape = (0, extents.count == 1 ? 0 : extents[1...].reduce(1, *), extents[0])
    } else if hasPair || keys[.bias] == nil {
      for part in [LoRAKey.Part.down, .up] where keys[part] == nil {
        throw .missingHalf(file: tensors.name, module: name.path, missing: part.name)
      }
      shape = try pairShape(tensors, name.path, keys[.down] ?? "", keys[.up] ?? "")
      (factor, rule) = try factors.scale(name, rank: shape.rank, alphaKey: keys[.alpha])
    }
    if let bias = keys[.bias] ?? keys[.upBias] {
      let found = tensors.entries[bias]?.shape ?? []
      if keys[.full] == nil && !hasPair { shape.outputs = found.first ?? 0 }
      guard found == [shape.outputs], shape.outputs > 0 else {
        throw .bias(file: tensors.name, tensor: bias, expected: shape.outputs, found: found)
      }
    }
    return LoRALayer(
      component: name.component, module: name.path, rank: shape.rank, inputs: shape.inputs,
      outputs: shape.outputs, rule: rule, factor: factor, spelling: name.spelling,
      isUnderscored: name.isUnderscored, families: name.found?.families ?? [], keys: keys)
  }

  /// Rank and widths of a pair, checked against each other. A convolution's kernel counts as part of its input:
  /// A is `[rank, in, …kernel]`, B `[out, rank, 1…]`.
  private static func pairShape(
    _ tensors: SafetensorsFile, _ module: String, _ downKey: String, _ upKey: String
  ) throws(LoRAError) -> (rank: Int, inputs: Int, outputs: Int) {
    let down = tensors.entries[downKey]?.shape ?? []
    let up = tensors.entries[upKey]?.shape ?? []
    guard down.count >= 2 else { throw .notAMatrix(file: tensors.name, tensor: downKey, shape: down) }
    guard up.count >= 2, up[2...].allSatisfy({ $0 == 1 }) else {
      throw .notAMatrix(file: tensors.name, tensor: upKey, shape: up)
    }
    guard down[0] == up[1] else {
      throw .rankMismatch(file: tensors.name, module: module, down: down, up: up)
    }
    // Real files hold ranks above a layer's smaller side, which is wasteful and harmless.
    let (rank, inputs) = (down[0], down[1...].reduce(1, *))
    guard rank >= 1, inputs >= 1, up[0] >= 1, rank <= max(up[0], inputs) else {
      throw .rank(file: tensors.name, module: module, rank: rank, out: up[0], in: inputs)
    }
    return (rank, inputs, up[0])
  }
}
