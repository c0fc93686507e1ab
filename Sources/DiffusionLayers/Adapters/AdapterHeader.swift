import Glibc

/// What an adapter file says about itself, in the entry `videolora_adapter` of its header (JSON). Other tools ignore it.
public struct AdapterHeader: Sendable, Equatable {
  /// The model family, such as `wan`.
  public var base: String?
  /// content, style, motion, camera, effect or domain.
  public var role: String?
  /// How it was trained: lora, lion, …
  public var method: String?
  public var rank: Int?
  /// The strengths that training has seen.
  public var strengthRange: ClosedRange<Float>?
  /// Values of s for evenly spaced strengths over the range, rising; up to `calibrationRange`.
  public var calibration: [Float]?
  /// How the strength token and the pairs work together; nil for the plain style.
  public var control: ControlStyle?
  /// ln ‖dW‖ of every module (diffusers' paths) when it was trained.
  public var weightNorms: [String: Double] = [:]
  /// ln of the mean norm of the module's contribution to its output, measured on a probe set.
  public var featureNorms: [String: Double] = [:]
  /// |cosine| between this adapter's updates and those of the ones it was measured against, by module.
  public var orthogonality: [String: Double] = [:]
  /// Words that call what was trained.
  public var trigger: String?
  public var licence: String?

  public init() {}

  /// The entry's name.
  public static let key = "videolora_adapter"

  /// The entry's text.
  public var text: String {
    var object: JSONObject = ["format": 1]
    if let base { object["base"] = .string(base) }
    if let role { object["role"] = .string(role) }
    if let method { object["method"] = .string(method) }
    if let rank { object["rank"] = .integer(rank) }
    if let strengthRange {
      object["strength_range"] = .array([
        Self.number(strengthRange.lowerBound), Self.number(strengthRange.upperBound),
      ])
    }
    if let calibration { object["calibration"] = .array(calibration.map(Self.number)) }
    if let control {
      object["control"] = .object([
        "tokens": .string(control.tokens.rawValue), "pairs": .string(control.pairs.rawValue),
      ])
    }
    for (key, table) in [
      ("weight_norms", weightNorms), ("feature_norms", featureNorms), ("orthogonality", orthogonality),
    ] where !table.isEmpty {
      var members = JSONObject()
      for (module, value) in table.sorted(by: { $0.key < $1.key }) { members[module] = .number(value) }
      object[key] = .object(members)
    }
    if let trigger { object["trigger"] = .string(trigger) }
    if let licence { object["licence"] = .string(licence) }
    return JSONValue.object(object).serialized()
  }

  /// What goes into a file's metadata.
  public var metadata: [(String, String)] {
    [(Self.key, text)] + (role.map { [("role", $0)] } ?? [])
  }

  /// The values of s that a table may ask of a token that was trained for `range`: past its end by its own length at most.
  package static func calibrationRange(_ range: ClosedRange<Float>) -> ClosedRange<Float> {
    range.lowerBound...range.upperBound + (range.upperBound - range.lowerBound)
  }

  private static func number(_ value: Float) -> JSONValue { .number(Double("\(value)") ?? Double(value)) }

  init(_ object: JSONObject) throws(JSONError) {
    func text(_ key: String) throws(JSONError) -> String? {
      object[key] == nil ? nil : try object.string(key)
    }
    base = try text("base")
    role = try text("role")
    method = try text("method")
    trigger = try text("trigger")
    licence = try text("licence")
    if object["rank"] != nil { rank = try object.int("rank") }
    if object["strength_range"] != nil {
      let ends = try object.doubles("strength_range")
      guard ends.count == 2, ends[0] < ends[1], ends.allSatisfy({ abs($0) <= 4 }) else {
        throw Self.wrong("strength_range", "two rising numbers in -4…4")
      }
      strengthRange = Float(ends[0])...Float(ends[1])
    }
    if object["calibration"] != nil {
      let values = try object.doubles("calibration")
      let range = strengthRange ?? 0...1
      guard (2...1001).contains(values.count), zip(values, values.dropFirst()).allSatisfy({ $0 <= $1 }),
        values.allSatisfy({ Self.calibrationRange(range).contains(Float($0)) })
      else {
        throw Self.wrong(
          "calibration", "2 to 1001 rising numbers inside strength_range or up to its length past the end")
      }
      calibration = values.map { Float($0) }
    }
    if object["control"] != nil {
      let members = try object.object("control")
      guard let tokens = members["tokens"]?.string.flatMap(ControlStyle.Tokens.init),
        let pairs = members["pairs"]?.string.flatMap(ControlStyle.Pairs.init)
      else { throw Self.wrong("control", "tokens (level or path) and pairs (whole or scaled)") }
      control = ControlStyle(tokens: tokens, pairs: pairs)
    }
    weightNorms = try Self.table(object, "weight_norms")
    featureNorms = try Self.table(object, "feature_norms")
    orthogonality = try Self.table(object, "orthogonality")
  }

  private static func table(_ object: JSONObject, _ key: String) throws(JSONError) -> [String: Double] {
    guard object[key] != nil else { return [:] }
    let members = try object.object(key)
    var table: [String: Double] = [:]
    for name in members.keys {
      guard let value = members[name]?.double, abs(value) <= 100 else {
        throw wrong(key, "a number in -100…100 for each module")
      }
      table[name] = value
    }
    return table
  }

  private static func wrong(_ key: String, _ expected: String) -> JSONError {
    JSONError(.wrongType(key: key, expected: expected, found: "something else"))
  }
}

extension LoRAFile {
  /// What the file says about itself; nil for files of other tools.
  /// - Throws: `LoRAError.metadata` for an entry that cannot be read.
  public func header() throws(LoRAError) -> AdapterHeader? {
    guard let text = metadata(AdapterHeader.key) else { return nil }
    do throws(JSONError) {
      guard let object = try JSONValue.parse(text, file: AdapterHeader.key).object else {
        throw JSONError(.wrongType(key: AdapterHeader.key, expected: "an object", found: "something else"))
      }
      return try AdapterHeader(object)
    } catch {
      throw .metadata(file: name, reason: error.description)
    }
  }

  /// ‖dW‖ by module of this file, as it states it.
  func statedNorms() throws(LoRAError) -> [String: Double] {
    try header()?.weightNorms.mapValues { exp($0) } ?? [:]
  }

  /// ln ‖dW‖ of every module, for the header of a new file.
  public func measuredNorms() throws(LoRAError) -> [String: Double] {
    var norms: [String: Double] = [:]
    for layer in layers {
      if let norm = try load(layer).weight?.norm, norm > 0 { norms[layer.module] = log(norm) }
    }
    return norms
  }
}
