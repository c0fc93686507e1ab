/// An adapter file that a user asks for.
public struct AdapterRequest: Sendable, Hashable {
  /// A safetensors file or `builtin:<name>`.
  public var path: String
  /// Whether keys that match nothing in the model are an error.
  public var strict: Bool
  /// Takes the place of the file's alpha / rank.
  public var alphaOverRank: Float?
  /// content, style, motion, camera, effect, domain, or auto.
  public var role: String

  public init(path: String, strict: Bool = true, alphaOverRank: Float? = nil, role: String = "auto") {
    self.path = path
    self.strict = strict
    self.alphaOverRank = alphaOverRank
    self.role = role
  }
}

/// What became of an adapter file.
public struct AdapterReport: Sendable, Equatable {
  public let path: String
  public let role: String
  /// Naming scheme of the file.
  public let dialect: String
  /// The largest rank of its pairs.
  public let rank: Int
  /// alpha / rank as applied at strength 1 (the first pair's where they differ).
  public let effectiveScale: Float
  public let matchedKeys: Int
  public let totalKeys: Int
  public let unmatched: [String]
  /// What a user should know although the file was loaded, nil when there is nothing.
  public var notice: String?
  /// The strengths that an adapter with a strength token was trained for; others are clamped to them. Nil where the
  /// strength multiplies.
  public let trainedRange: ClosedRange<Float>?
  /// What its updates take in memory.
  public var bytes = 0

  /// The sentence for a strength outside the trained range, nil inside.
  public func warning(strength: Float) -> String? {
    guard let trainedRange, !trainedRange.contains(strength) else { return nil }
    return "'\(path)' was trained for strengths \(trainedRange.lowerBound)…\(trainedRange.upperBound); "
      + "\(strength) is taken as \(max(trainedRange.lowerBound, min(trainedRange.upperBound, strength)))"
  }
}
