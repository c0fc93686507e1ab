/// What an adapter file does to a model, as reports and bus messages state it.
public struct LoRAReport: Sendable, Equatable {
  public let file: String
  public let dialect: LoRADialect
  /// The ranks that occur, rising.
  public let ranks: [Int]
  /// The alpha rules that occur, in order of precedence.
  public let rules: [LoRAAlphaRule]
  /// The smallest and the largest factor of a layer.
  public let scales: ClosedRange<Float>
  /// The factor that most layers have.
  public let effectiveScale: Float
  public let matchedKeys: Int
  public let totalKeys: Int
  /// Keys of the file that match nothing in the model.
  public let unmatched: [String]
  /// Keys of the file that this version of the model has no place for and that are left out: those of the middle block's
  /// motion module in AnimateDiff v1 and v3.
  public let skipped: [String]
  /// Layers of the model that the file leaves alone.
  public let untouched: [String]
  /// What the file seems to be made for, where that is recognised.
  public let seemsFor: String?

  /// What a user should know although the file was loaded, nil when there is nothing.
  public var notice: String? {
    guard !skipped.isEmpty else { return nil }
    return
      "'\(file)': \(skipped.count) of its \(totalKeys) keys are for the middle block's motion module, which only "
      + "AnimateDiff v2 has; they are left out"
  }

  /// The largest rank.
  public var rank: Int { ranks.last ?? 0 }
}

extension LoRAFile {
  /// What the file says about itself, without a model.
  public var report: LoRAReport { report(matched: layers, unmatched: otherKeys, skipped: [], untouched: []) }

  func report(matched: [LoRALayer], unmatched: [String], skipped: [String], untouched: [String]) -> LoRAReport
  {
    let pairs = matched.filter { $0.rank > 0 }
    let scales = pairs.map(\.scale)
    let counts = scales.reduce(into: [Float: Int]()) { $0[$1, default: 0] += 1 }
    let common = counts.max { ($0.value, $0.key) < ($1.value, $1.key) }?.key ?? 1
    return LoRAReport(
      file: name, dialect: dialect, ranks: Set(pairs.map(\.rank)).sorted(),
      rules: LoRAAlphaRule.allCases.filter { rule in pairs.contains { $0.rule == rule } },
      scales: (scales.min() ?? 1)...(scales.max() ?? 1), effectiveScale: common,
      matchedKeys: matched.reduce(controlKeys.count) { $0 + $1.keyCount }, totalKeys: totalKeys,
      unmatched: unmatched, skipped: skipped, untouched: untouched, seemsFor: seemsFor)
  }
}
