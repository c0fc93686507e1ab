/// Finds the factor of each layer's pair, by the rules of `LoRAAlphaRule` in their order.
struct LoRAFactors {
  private let tensors: SafetensorsFile
  private let override: Float?
  private var settings: [LoRAComponent: LoRASettings] = [:]

  /// Reads the settings outside the tensors: the header's, then the sidecar's, then kohya's if no layer has its
  /// own alpha.
  init(
    _ tensors: SafetensorsFile, sidecar: JSONObject?, override: Float?, hasAlphaTensors: Bool
  ) throws(LoRAError) {
    self.tensors = tensors
    self.override = override
    if let override {
      try Self.check(Double(override), file: tensors.name, module: "alpha-over-rank")
      return
    }
    for component in LoRAComponent.allCases {
      settings[component] = try Self.settings(tensors, sidecar, hasAlphaTensors, component)
    }
  }

  /// The factor of one layer and the rule it comes from.
  func scale(
    _ name: LoRAName, rank: Int, alphaKey: String?
  ) throws(LoRAError) -> (Double, LoRAAlphaRule) {
    if let override { return (Double(override), .override) }
    var result = (1.0, LoRAAlphaRule.none)
    let names = name.path == name.spelling ? [name.path] : [name.path, name.spelling]
    if let alphaKey {
      do { result = (try tensors.scalar(alphaKey) / Double(rank), .tensor) } catch { throw .file(error) }
    } else if let settings = settings[name.component] {
      if let stated = settings.rank(of: names), stated != rank {
        throw .rankDisagrees(
          file: tensors.name, module: name.path, stated: stated, found: rank, origin: settings.rule.name)
      }
      result = (settings.scale(of: names, rank: rank), settings.rule)
    }
    try Self.check(result.0, file: tensors.name, module: name.path)
    return result
  }

  private static func settings(
    _ tensors: SafetensorsFile, _ sidecar: JSONObject?, _ hasAlphaTensors: Bool, _ component: LoRAComponent
  ) throws(LoRAError) -> LoRASettings? {
    do throws(JSONError) {
      if let text = tensors.metadata("lora_adapter_metadata") {
        guard let json = try JSONValue.parse(text, file: "lora_adapter_metadata").object else {
          throw JSONError(
            .wrongType(key: "lora_adapter_metadata", expected: "an object", found: "something else"))
        }
        if let settings = try LoRASettings(json, rule: .header, component: component) { return settings }
      }
      if let sidecar, let settings = try LoRASettings(sidecar, rule: .sidecar, component: component) {
        return settings
      }
    } catch {
      throw .metadata(file: tensors.name, reason: error.description)
    }
    if hasAlphaTensors { return nil }
    return LoRASettings(
      kohyaAlpha: tensors.metadata("ss_network_alpha"), dimension: tensors.metadata("ss_network_dim"))
  }

  /// Refuses factors that no training writes: NaN, infinite, zero, negative, or absurdly large.
  private static func check(_ scale: Double, file: String, module: String) throws(LoRAError) {
    guard scale.isFinite, scale > 0, scale <= 1000 else {
      throw .alpha(file: file, module: module, value: scale)
    }
  }
}
