import TensorCore

/// Writes an adapter under the names of another scheme. Numbers are copied bit by bit; only an alpha that the scheme
/// cannot hold is multiplied into B, and that is said.
public struct LoRAWriter {
  /// Schemes that can be written.
  public static let dialects: [LoRADialect] = [
    .diffusers, .peft, .bare, .original, .diffSynth, .comfyUI, .kohya, .videoXFun, .diffusersOld,
    .attentionProcessors, .motion,
  ]

  private let dialect: LoRADialect
  private let file: String
  private var writer: SafetensorsWriter
  private var folded = 0
  private var header = PEFTHeader()

  /// Writes the content of `file` to `path` in another scheme, whole or not at all.
  /// - Returns: sentences about what the scheme could not hold as it was.
  /// - Throws: `LoRAError.conversion` when the scheme cannot name a layer or hold a kind of update.
  public static func convert(_ file: LoRAFile, to dialect: LoRADialect, path: String) throws(LoRAError)
    -> [String]
  {
    try write(try AdapterContents(file), as: dialect, path: path, for: file.name)
  }

  /// Writes the content of `file` to `path` with another `AdapterHeader`; its numbers and names stay.
  /// - Throws: `LoRAError.conversion` for a scheme that cannot be written.
  public static func write(_ file: LoRAFile, header: AdapterHeader, path: String) throws(LoRAError) {
    var contents = try AdapterContents(file)
    let entries = header.metadata
    contents.metadata = contents.metadata.filter { key, _ in !entries.contains { $0.0 == key } } + entries
    _ = try write(contents, as: file.dialect, path: path, for: file.name)
  }

  /// Writes contents to `path`; `name` is the file in messages.
  static func write(
    _ contents: AdapterContents, as dialect: LoRADialect, path: String, for name: String
  ) throws(LoRAError) -> [String] {
    guard dialects.contains(dialect) else {
      throw .conversion(file: name, reason: "\(dialect.name) can be read but not written")
    }
    var writer = LoRAWriter(contents, dialect, name)
    for layer in contents.layers { try writer.add(layer) }
    for (key, tensor) in contents.control { writer.put(key, tensor) }
    return try writer.finish(path)
  }

  private init(_ contents: AdapterContents, _ dialect: LoRADialect, _ name: String) {
    self.dialect = dialect
    file = name
    writer = SafetensorsWriter(metadata: [("format", "pt")] + contents.metadata)
  }

  private mutating func add(_ layer: AdapterContents.Layer) throws(LoRAError) {
    let names = LayerNames(dialect, layer)
    guard let stem = names.stem else {
      throw .conversion(
        file: file,
        reason: "\(dialect.name) has no name for the layer '\(layer.module)' (\(layer.component.rawValue))")
    }
    var layer = layer
    var alpha = layer.factor * Double(layer.rank)
    if let up = layer.up, layer.factor != 1, !holds(alpha, layer) {
      layer.up = up.scaled(by: Float(layer.factor))
      alpha = Double(layer.rank)
      layer.factor = 1
      folded += 1
    }
    if let down = layer.down, let up = layer.up {
      put(stem + names.down, down)
      put(stem + names.up, up)
      // diffusers reads ComfyUI's alphas for the layers of blocks only, so one that says nothing is left out.
      if names.storesAlpha, dialect != .comfyUI || layer.factor != 1 {
        writer.add(stem + ".alpha", Tensor([Float(alpha)], shape: []))
      }
      header.add(layer, stem: stem, alpha: alpha)
    }
    try addDifferences(layer, stem, names)
  }

  private mutating func addDifferences(
    _ layer: AdapterContents.Layer, _ stem: String, _ names: LayerNames
  ) throws(LoRAError) {
    guard names.storesDifferences else {
      if layer.full != nil || (layer.bias != nil && layer.down == nil)
        || (layer.bias != nil && names.upBias == nil)
      {
        throw .conversion(
          file: file,
          reason: "\(dialect.name) cannot hold the difference of '\(layer.module)'; comfyui and kohya can")
      }
      if let bias = layer.bias, let ending = names.upBias {
        put(stem + ending, bias.scaled(by: 1 / Float(layer.factor)))
      }
      return
    }
    if let full = layer.full { put(stem + ".diff", full) }
    if let bias = layer.bias { put(stem + ".diff_b", bias) }
  }

  private mutating func put(_ name: String, _ tensor: StoredTensor) {
    writer.add(name, bytes: tensor.bytes, dtype: tensor.dtype, shape: tensor.shape)
  }

  /// Whether the scheme can say this alpha exactly, so that a reader finds the same factor.
  private func holds(_ alpha: Double, _ layer: AdapterContents.Layer) -> Bool {
    let names = LayerNames(dialect, layer)
    let rank = Double(layer.rank)
    if names.storesAlpha { return Float(Double(Float(alpha)) / rank) == Float(layer.factor) }
    guard dialect == .diffusers, Float(alpha / rank) == Float(layer.factor) else { return false }
    // A bias of B is scaled by alpha / rank again when it is read.
    let factor = Float(layer.factor)
    return layer.bias?.floats.allSatisfy { $0 * (1 / factor) * factor == $0 } ?? true
  }

  private mutating func finish(_ path: String) throws(LoRAError) -> [String] {
    if dialect == .diffusers, let text = header.text { writer.setMetadata("lora_adapter_metadata", text) }
    do { try writer.write(to: path) } catch { throw .file(error) }
    guard folded > 0 else { return [] }
    return [
      "\(dialect.name) cannot hold every alpha: alpha / rank is multiplied into the up matrices of \(folded) layers"
    ]
  }
}

/// How one layer is called in a scheme.
private struct LayerNames {
  /// Nil where the scheme has no name for the layer.
  let stem: String?
  var down = ".lora_A.weight"
  var up = ".lora_B.weight"
  /// Whether the scheme has `.alpha` tensors.
  var storesAlpha = false
  /// Whether the scheme has `.diff` and `.diff_b`.
  var storesDifferences = false
  /// The ending of the bias of B, where the scheme has one.
  var upBias: String?

  init(_ dialect: LoRADialect, _ layer: AdapterContents.Layer) {
    let (path, families, isText) = (layer.module, layer.families, layer.component != .denoiser)
    let isUNet =
      families.contains { $0 == .stableDiffusion || $0 == .animateDiff } && !families.contains(.cogVideoX)
    let isDiT = families.contains(.wan) || families.contains(.cogVideoX)
    // The original names of Wan; the other transformers go by diffusers' names everywhere.
    let original = families.contains(.wan) ? ModuleNames.original(path, of: .wan) : isDiT ? path : nil
    let component = isText ? "\(layer.component.rawValue)." : isUNet ? "unet." : "transformer."
    let underscored = { (text: String) in String(text.map { $0 == "." ? "_" : $0 }) }
    switch dialect {
    case .diffusers:
      stem = component + path
      upBias = ".lora_B.bias"
    case .peft:
      stem = isText ? nil : "base_model.model." + path
      upBias = ".lora_B.bias"
    case .bare:
      stem = isText ? nil : path
      upBias = ".lora_B.bias"
    case .original:
      stem = isText || !families.contains(.wan) ? nil : original
      upBias = ".lora_B.bias"
    case .diffSynth:
      stem = isText || !families.contains(.wan) ? nil : original
      (down, up) = (".lora_A.default.weight", ".lora_B.default.weight")
    case .comfyUI:
      stem = isText ? nil : original.map { "diffusion_model." + $0 }
      (down, up) = (".lora_down.weight", ".lora_up.weight")
      (storesAlpha, storesDifferences) = (true, true)
    case .kohya:
      switch layer.component {
      case .denoiser: stem = (original ?? (isUNet ? path : nil)).map { "lora_unet_" + underscored($0) }
      case .textEncoder: stem = "lora_te_" + underscored(path)
      case .textEncoder2: stem = "lora_te2_" + underscored(path)
      }
      (down, up) = (".lora_down.weight", ".lora_up.weight")
      (storesAlpha, storesDifferences) = (true, true)
    case .videoXFun:
      stem = isText ? nil : original.map { "lora_unet__" + underscored($0) }
      (down, up) = (".lora_down.weight", ".lora_up.weight")
      (storesAlpha, storesDifferences) = (true, true)
    case .diffusersOld:
      stem = families.contains(.wan) ? nil : component + path
      (down, up) =
        isText
        ? (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight")
        : (".lora.down.weight", ".lora.up.weight")
    case .attentionProcessors:
      let old = ModuleNames.original(path, of: .stableDiffusion)
      stem = old.flatMap {
        $0.contains(".processor.") || isText && $0.contains(".to_") ? component + $0 : nil
      }
      (down, up) = ("_lora.down.weight", "_lora.up.weight")
    case .motion:
      let old = ModuleNames.original(path, of: .animateDiff)
      stem = old.flatMap { $0.contains(".processor.") ? $0 : nil }
      (down, up) = ("_lora.down.weight", "_lora.up.weight")
    case .sat, .cloneofsimo: stem = nil
    }
  }
}

/// `lora_adapter_metadata` of a diffusers file: what PEFT's LoraConfig would say.
private struct PEFTHeader {
  private var layers: [(component: String, path: String, rank: Int, alpha: Double, hasBias: Bool)] = []

  mutating func add(_ layer: AdapterContents.Layer, stem: String, alpha: Double) {
    let component = stem.prefix { $0 != "." }
    layers.append((String(component), layer.module, layer.rank, alpha, layer.bias != nil))
  }

  /// Nil when every factor is 1, which is what a reader takes for granted.
  var text: String? {
    guard layers.contains(where: { $0.alpha != Double($0.rank) || $0.hasBias }) else { return nil }
    var object = JSONObject()
    for component in Set(layers.map(\.component)).sorted() {
      let own = layers.filter { $0.component == component }
      let rank = Self.mostCommon(own.map { Double($0.rank) })
      let alpha = Self.mostCommon(own.map(\.alpha))
      var (ranks, alphas) = (JSONObject(), JSONObject())
      for layer in own where Double(layer.rank) != rank { ranks[layer.path] = .integer(layer.rank) }
      for layer in own where layer.alpha != alpha { alphas[layer.path] = .number(layer.alpha) }
      object["\(component).r"] = .integer(Int(rank))
      object["\(component).lora_alpha"] = .number(alpha)
      object["\(component).rank_pattern"] = .object(ranks)
      object["\(component).alpha_pattern"] = .object(alphas)
      object["\(component).lora_bias"] = .bool(own.contains { $0.hasBias })
      object["\(component).target_modules"] = .array(own.map { .string($0.path) })
    }
    return JSONValue.object(object).serialized()
  }

  private static func mostCommon(_ values: [Double]) -> Double {
    let counts = values.reduce(into: [Double: Int]()) { $0[$1, default: 0] += 1 }
    return counts.max { ($0.value, $0.key) < ($1.value, $1.key) }?.key ?? 1
  }
}
