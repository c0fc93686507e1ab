import DiffusionLayers

/// How pairs of clips, before and after, are trained on: the key `source` of a recipe.
public struct SourceRecipe: Sendable, Equatable {
  /// Share of the samples that start at the noised source, as video to video does; the others are the usual objective
  /// on the clip behind it.
  public var share = 0.0
  /// The strengths of video to video that those samples start at.
  public var levels = [0.3, 0.8]
  /// Share of the samples in which the adapter's strength changes from frame to frame, and the clip with it.
  public var animated = 0.0

  public init() {}

  /// Whether the clips need a source.
  var isUsed: Bool { share > 0 || animated > 0 }

  static let keys = ["share", "levels", "animated"]
  static let rule =
    "must be an object with share (0…1), levels (two rising strengths in 0.01…1) and animated (0…1), "
    + "each of which may be left out"

  var json: JSONObject {
    [
      "share": .number(share), "levels": .array(levels.map(JSONValue.number)), "animated": .number(animated),
    ]
  }

  /// This with the members of `object` changed; nil for one that does not exist or cannot be.
  func changed(by object: JSONObject) -> SourceRecipe? {
    guard object.keys.allSatisfy(Self.keys.contains) else { return nil }
    var result = self
    for (key, path) in [("share", \SourceRecipe.share), ("animated", \SourceRecipe.animated)] {
      guard let value = object[key] else { continue }
      guard let number = value.double, (0...1).contains(number) else { return nil }
      result[keyPath: path] = number
    }
    if let value = object["levels"] {
      let ends = value.array?.compactMap(\.double) ?? []
      guard ends.count == 2, value.array?.count == 2, ends[0] <= ends[1],
        ends.allSatisfy({ (0.01...1).contains($0) })
      else { return nil }
      result.levels = ends
    }
    return result
  }
}

extension TrainingRecipe {
  /// Throws for the first clip that has no source where the recipe needs one.
  func checkSources(of data: any TrainingData) throws(TrainingError) {
    guard source.isUsed else { return }
    guard method == "lora" else {
      throw .recipe(key: "source", reason: "goes with the method lora alone")
    }
    for index in 0..<data.count where !data.hasSource(index) {
      throw .data(
        path: data.label(index)?.name ?? "the data",
        reason: "has no source, which the recipe's 'source' needs; give --source FOLDER, or a tensor "
          + "'source' beside 'frames'")
    }
  }
}
