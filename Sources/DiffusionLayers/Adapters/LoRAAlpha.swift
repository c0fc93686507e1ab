/// How the factor of a low-rank update was found, in falling order of precedence.
public enum LoRAAlphaRule: String, Sendable, CaseIterable {
  /// The user's `alpha-over-rank`.
  case override
  /// The layer's own `.alpha` tensor over its rank.
  case tensor
  /// `lora_adapter_metadata` in the file's header.
  case header
  /// `adapter_config.json` beside the file.
  case sidecar
  /// `ss_network_alpha` in the file's header.
  case kohyaHeader = "kohya-header"
  /// Nothing is stored: factor 1.
  case none

  /// The rule as reports print it.
  public var name: String {
    switch self {
    case .override: "alpha-over-rank set by the user"
    case .tensor: "alpha tensor per layer"
    case .header: "lora_adapter_metadata in the header"
    case .sidecar: "adapter_config.json beside the file"
    case .kohyaHeader: "ss_network_alpha in the header"
    case .none: "no alpha stored, factor 1"
    }
  }
}

/// What a file's settings, outside its tensors, say about ranks and alphas.
struct LoRASettings {
  let rule: LoRAAlphaRule
  private let rank: Int?
  private let alpha: Double
  private let ranks: [(pattern: String, value: Int)]
  private let alphas: [(pattern: String, value: Double)]
  private let isRankStabilized: Bool

  /// Settings in PEFT's words: `r`, `lora_alpha`, `rank_pattern`, `alpha_pattern`, `use_rslora`, each perhaps
  /// behind `transformer.`, `unet.` or `text_encoder.`. Nil when they do not speak about this component's adapter.
  init?(_ json: JSONObject, rule: LoRAAlphaRule, component: LoRAComponent) throws(JSONError) {
    let prefixes = component == .denoiser ? ["transformer.", "unet.", ""] : ["\(component.rawValue).", ""]
    guard let prefix = prefixes.first(where: { json[$0 + "lora_alpha"] != nil }) else { return nil }
    self.rule = rule
    alpha = try json.double(prefix + "lora_alpha")
    rank = json[prefix + "r"] == nil ? nil : try json.int(prefix + "r")
    isRankStabilized = try json.bool(prefix + "use_rslora", default: false)
    let rankPattern = try json.object(prefix + "rank_pattern", default: [:])
    let alphaPattern = try json.object(prefix + "alpha_pattern", default: [:])
    var ranks: [(String, Int)] = []
    for key in rankPattern.keys { ranks.append((try Self.plain(key), try rankPattern.int(key))) }
    var alphas: [(String, Double)] = []
    for key in alphaPattern.keys { alphas.append((try Self.plain(key), try alphaPattern.double(key))) }
    self.ranks = ranks
    self.alphas = alphas
  }

  /// Settings in kohya's words; nil when the header has none.
  init?(kohyaAlpha: String?, dimension: String?) {
    guard let kohyaAlpha, let alpha = Double(kohyaAlpha) else { return nil }
    rule = .kohyaHeader
    self.alpha = alpha
    rank = dimension.flatMap { Int($0) }
    ranks = []
    alphas = []
    isRankStabilized = false
  }

  /// The rank stated for a module, by any of its names, or nil when nothing is stated.
  func rank(of names: [String]) -> Int? {
    ranks.first { pattern, _ in names.contains { Self.matches(pattern, $0) } }?.value ?? rank
  }

  /// alpha / rank of a module, or alpha / sqrt(rank) where the settings say so.
  func scale(of names: [String], rank: Int) -> Double {
    let alpha = alphas.first { pattern, _ in names.contains { Self.matches(pattern, $0) } }?.value ?? alpha
    return alpha / (isRankStabilized ? Double(rank).squareRoot() : Double(rank))
  }

  /// PEFT reads a pattern as a regular expression that must match the end of the name from a dot on.
  private static func matches(_ pattern: String, _ module: String) -> Bool {
    if pattern.hasPrefix("^") { return module == pattern.dropFirst() }
    return module == pattern || module.hasSuffix("." + pattern)
  }

  /// A pattern without regular-expression operators, the only kind that is written in practice. A leading `^`
  /// stays.
  private static func plain(_ pattern: String) throws(JSONError) -> String {
    let anchor = pattern.hasPrefix("^") ? "^" : ""
    let body = String(pattern.dropFirst(anchor.count))
    if body.contains(where: { "*+?[](){}|\\^$".contains($0) }) {
      throw JSONError(
        .wrongType(
          key: "rank_pattern or alpha_pattern", expected: "plain module names", found: "'\(pattern)'"))
    }
    return anchor + LoRAName.stripped(body)
  }
}
