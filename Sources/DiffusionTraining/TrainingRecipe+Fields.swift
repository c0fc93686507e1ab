import DiffusionLayers

/// A key of a recipe: how it is read, written, and what its values may be.
struct RecipeField: Sendable {
  let key: String
  /// The only method that it is for; nil for all.
  var method: String?
  let rule: String
  let get: @Sendable (TrainingRecipe) -> JSONValue
  /// False for a value that cannot be.
  let set: @Sendable (inout TrainingRecipe, JSONValue) -> Bool
}

/// What one method adds to a recipe, under one key.
protocol RecipePart: Sendable {
  static var rule: String { get }
  var json: JSONObject { get }
  /// This with the members of `object` changed; nil for one that does not exist or cannot be.
  func changed(by object: JSONObject) -> Self?
}

extension ControlRecipe: RecipePart {}
extension MotionRecipe: RecipePart {}
extension SourceRecipe: RecipePart {}

extension RecipeField {
  static func number(
    _ key: String, _ path: any WritableKeyPath<TrainingRecipe, Double> & Sendable,
    _ range: ClosedRange<Double>
  ) -> RecipeField {
    RecipeField(
      key: key, rule: "must be a number in \(range.lowerBound)…\(range.upperBound)",
      get: { .number($0[keyPath: path]) },
      set: { recipe, value in
        guard let number = value.double, range.contains(number) else { return false }
        recipe[keyPath: path] = number
        return true
      })
  }

  static func integer(
    _ key: String, _ path: any WritableKeyPath<TrainingRecipe, Int> & Sendable, _ range: ClosedRange<Int>
  ) -> RecipeField {
    RecipeField(
      key: key, rule: "must be a whole number in \(range.lowerBound)…\(range.upperBound)",
      get: { .integer($0[keyPath: path]) },
      set: { recipe, value in
        guard let number = value.int, range.contains(number) else { return false }
        recipe[keyPath: path] = number
        return true
      })
  }

  static func choice<Value: RawRepresentable<String> & CaseIterable & Sendable>(
    _ key: String, _ path: any WritableKeyPath<TrainingRecipe, Value> & Sendable
  ) -> RecipeField {
    RecipeField(
      key: key, rule: "must be one of \(Value.allCases.map(\.rawValue).joined(separator: ", "))",
      get: { .string($0[keyPath: path].rawValue) },
      set: { recipe, value in
        guard let choice = value.string.flatMap(Value.init(rawValue:)) else { return false }
        recipe[keyPath: path] = choice
        return true
      })
  }

  /// Keys of their own in one object, for one method.
  static func part<Value: RecipePart>(
    _ key: String, of method: String, _ path: any WritableKeyPath<TrainingRecipe, Value> & Sendable
  ) -> RecipeField {
    RecipeField(
      key: key, method: method, rule: Value.rule, get: { .object($0[keyPath: path].json) },
      set: { recipe, value in
        guard let changed = value.object.flatMap(recipe[keyPath: path].changed) else { return false }
        recipe[keyPath: path] = changed
        return true
      })
  }

  static func text(
    _ key: String, _ path: any WritableKeyPath<TrainingRecipe, String> & Sendable, _ allowed: [String] = []
  ) -> RecipeField {
    RecipeField(
      key: key,
      rule: allowed.isEmpty ? "must be text" : "must be one of \(allowed.joined(separator: ", "))",
      get: { .string($0[keyPath: path]) },
      set: { recipe, value in
        guard let text = value.string, allowed.isEmpty || allowed.contains(text) else { return false }
        recipe[keyPath: path] = text
        return true
      })
  }

  static func flag(_ key: String, _ path: any WritableKeyPath<TrainingRecipe, Bool> & Sendable) -> RecipeField
  {
    RecipeField(
      key: key, rule: "must be true or false", get: { .bool($0[keyPath: path]) },
      set: { recipe, value in
        guard let flag = value.bool else { return false }
        recipe[keyPath: path] = flag
        return true
      })
  }
}

extension TrainingRecipe {
  /// Every key, in the order in which they are printed.
  static let fields: [RecipeField] = [
    .text("method", \.method, methods),
    .text("role", \.role, ["content", "style", "motion", "camera", "effect", "domain"]),
    RecipeField(
      key: "targets", rule: "must be a list of one or more names of layers",
      get: { .array($0.targets.map(JSONValue.string)) },
      set: { recipe, value in
        let names = value.array?.compactMap(\.string) ?? []
        guard !names.isEmpty, names.count == value.array?.count else { return false }
        recipe.targets = names
        return true
      }),
    .integer("rank", \.rank, 1...1024), .number("alpha", \.alpha, 0...65536),
    .integer("steps", \.steps, 1...10_000_000), .integer("batch", \.batch, 1...4096),
    .number("lr", \.learningRate, 0...10), .integer("warmup", \.warmup, 0...1_000_000),
    .choice("decay", \.decay), .number("weight_decay", \.weightDecay, 0...10),
    RecipeField(
      key: "adam", rule: "must be both betas, from 0 up to, but not including, 1, and an epsilon in 1e-30…1",
      get: { .array(($0.betas + [$0.epsilon]).map(JSONValue.number)) },
      set: { recipe, value in
        let numbers = value.array?.compactMap(\.double) ?? []
        guard numbers.count == 3, value.array?.count == 3, numbers[..<2].allSatisfy({ (0..<1).contains($0) }),
          (1e-30...1).contains(numbers[2])
        else { return false }
        (recipe.betas, recipe.epsilon) = (Array(numbers[..<2]), numbers[2])
        return true
      }),
    .number("clip_norm", \.clipNorm, 0...1e9),
    .number("ema", \.ema, 0...0.999999), .number("caption_dropout", \.captionDropout, 0...1),
    .number("trigger_dropout", \.triggerDropout, 0...1), .choice("timesteps", \.timesteps),
    .number("shift", \.shift, 0...1000), .integer("seed", \.seed, 0...Int(Int32.max)),
    .integer("frames", \.frames, 0...4096), .flag("checkpointing", \.checkpointing),
    .number("hold_out", \.holdOut, 0...0.9), .integer("save_every", \.saveEvery, 1...1_000_000),
    .part("control", of: "lion", \.control),
    .part("motion", of: "motion-lora", \.motion),
    .part("source", of: "lora", \.source), .text("licence", \.licence),
  ]
}
