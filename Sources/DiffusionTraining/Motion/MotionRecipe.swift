import DiffusionLayers

/// How the method `motion-lora` trains: the key `motion` of a recipe.
public struct MotionRecipe: Sendable, Equatable {
  /// Which heads of a transformer's self-attention are trained. A UNet's motion modules look at nothing but other frames:
  /// theirs are trained whole.
  public enum Heads: String, Sendable, CaseIterable {
    case all
    /// Those that look at other frames rather than at their own (`HeadMap`).
    case temporal
  }

  /// Weight of the anchor-frame loss (MotionDirector's debias loss), which leaves out what all frames have in common; 0
  /// is none.
  public var debias = 0.0
  public var heads = Heads.temporal

  public init() {}

  static let rule =
    "must be an object with debias (0…1000) and heads (\(Heads.allCases.map(\.rawValue).joined(separator: " or "))), "
    + "each of which may be left out"

  var json: JSONObject { ["debias": .number(debias), "heads": .string(heads.rawValue)] }

  /// This with the members of `object` changed; nil for one that does not exist or cannot be.
  func changed(by object: JSONObject) -> MotionRecipe? {
    guard object.keys.allSatisfy(["debias", "heads"].contains) else { return nil }
    var result = self
    if let value = object["debias"] {
      guard let weight = value.double, (0...1000).contains(weight) else { return nil }
      result.debias = weight
    }
    if let value = object["heads"] {
      guard let heads = value.string.flatMap(Heads.init) else { return nil }
      result.heads = heads
    }
    return result
  }
}
