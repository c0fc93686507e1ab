public import DiffusionLayers

/// How the method `lion` trains its strength token: the key `control` of a recipe.
public struct ControlRecipe: Sendable, Equatable {
  /// Learning rate of the token's tensors over that of the pairs.
  public var rate = 10.0
  /// The share of a video token's attention that the token's key starts with. Methods that start it at a fixed logit
  /// leave the token unseen among many keys, and what is not seen is not learned.
  public var share = 0.5
  /// The strengths that labels may have. A range with negative numbers is for moves with a mirror image.
  public var range = [0.0, 1.0]
  /// What the tokens of a clip's frames say, and whether the pairs act whole. Beside a token alone, pairs that act times
  /// the strength learn what it means in a tenth of the steps (docs/WORKLOG.md).
  public var style = ControlStyle(tokens: .level, pairs: .scaled)
  /// Trained adapters whose input directions the new one is kept away from.
  public var orthogonalTo: [String] = []
  /// Weight of that in the loss.
  public var orthogonality = 0.1

  public init() {}

  static let keys = ["rate", "share", "range", "tokens", "pairs", "orthogonal_to", "orthogonality"]
  static let rule =
    "must be an object with rate (0…1000), share (above 0, below 1), range (two rising numbers in -1…1), "
    + "tokens (level or path), pairs (whole or scaled), "
    + "orthogonal_to (a list of files) and orthogonality (0…1000), each of which may be left out"

  var json: JSONObject {
    [
      "rate": .number(rate), "share": .number(share), "range": .array(range.map(JSONValue.number)),
      "tokens": .string(style.tokens.rawValue), "pairs": .string(style.pairs.rawValue),
      "orthogonal_to": .array(orthogonalTo.map(JSONValue.string)), "orthogonality": .number(orthogonality),
    ]
  }

  /// This with the members of `object` changed; nil for one that does not exist or cannot be.
  func changed(by object: JSONObject) -> ControlRecipe? {
    guard object.keys.allSatisfy(Self.keys.contains) else { return nil }
    var result = self
    func number(_ key: String, _ limits: ClosedRange<Double>, _ current: Double) -> Double? {
      guard let value = object[key] else { return current }
      return value.double.flatMap { limits.contains($0) ? $0 : nil }
    }
    guard let rate = number("rate", 0...1000, rate), let share = number("share", 1e-9...0.999, share),
      let weight = number("orthogonality", 0...1000, orthogonality)
    else { return nil }
    (result.rate, result.share, result.orthogonality) = (rate, share, weight)
    if let value = object["range"] {
      let ends = value.array?.compactMap(\.double) ?? []
      guard ends.count == 2, value.array?.count == 2, ends[0] < ends[1], ends.allSatisfy({ abs($0) <= 1 })
      else { return nil }
      result.range = ends
    }
    if let value = object["tokens"] {
      guard let tokens = value.string.flatMap(ControlStyle.Tokens.init) else { return nil }
      result.style.tokens = tokens
    }
    if let value = object["pairs"] {
      guard let pairs = value.string.flatMap(ControlStyle.Pairs.init) else { return nil }
      result.style.pairs = pairs
    }
    if let value = object["orthogonal_to"] {
      let files = value.array?.compactMap(\.string) ?? []
      guard let count = value.array?.count, files.count == count else { return nil }
      result.orthogonalTo = files
    }
    return result
  }

  /// `range` as strengths.
  var strengths: ClosedRange<Float> { Float(range[0])...Float(range[1]) }
}
