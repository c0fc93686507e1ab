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
  /// Layers of the model that the file leaves alone.
  public let untouched: [String]
  /// What the file seems to be made for, where that is recognised.
  public let seemsFor: String?

  /// The largest rank.
  public var rank: Int { ranks.last ?? 0 }
}

/// An adapter loaded for one model: its pairs by layer, ready for `AdaptedSource`.
public struct LoRAMatch: Sendable {
  /// Pairs by module path, such as `blocks.3.attn1.to_q`.
  public let pairs: [String: LoRAPair]
  public let report: LoRAReport
}

extension LoRAFile {
  /// Loads the pairs that fit a model whose linear layers have these widths, by module path.
  ///
  /// Strict: a key that matches nothing is an error. Not strict: such keys are only reported, but an adapter
  /// that matches nothing at all, or a layer of another width, is an error all the same.
  public func match(
    against modules: [String: (out: Int, in: Int)], strict: Bool
  ) throws(LoRAError) -> LoRAMatch {
    let matched = layers.filter { modules[$0.module] != nil }
    let unmatched =
      layers.filter { modules[$0.module] == nil }
      .flatMap { [$0.downKey, $0.upKey] + ($0.alphaKey.map { [$0] } ?? []) } + otherKeys
    if matched.isEmpty || (strict && !unmatched.isEmpty) {
      throw .unmatched(
        file: name, unmatched: unmatched.count, total: totalKeys, examples: Array(unmatched.prefix(3)),
        seemsFor: seemsFor)
    }
    for layer in matched {
      guard let shape = modules[layer.module], shape.out != layer.outputs || shape.in != layer.inputs else {
        continue
      }
      throw .shape(
        file: name, module: layer.module, expected: [shape.out, shape.in],
        found: [layer.outputs, layer.inputs],
        seemsFor: seemsFor)
    }
    var pairs: [String: LoRAPair] = [:]
    for layer in matched { pairs[layer.module] = try load(layer) }
    let report = report(
      matched: matched, unmatched: unmatched,
      untouched: modules.keys.filter { pairs[$0] == nil }.sorted())
    return LoRAMatch(pairs: pairs, report: report)
  }

  /// Loads the pairs that fit the linear layers of a model: every module with a two-dimensional `weight`.
  public func match(against model: any WeightSource, strict: Bool) throws(LoRAError) -> LoRAMatch {
    var modules: [String: (out: Int, in: Int)] = [:]
    for tensor in model.names where tensor.hasSuffix(".weight") {
      guard let shape = model.shape(of: tensor), shape.count == 2 else { continue }
      modules[String(tensor.dropLast(".weight".count))] = (shape[0], shape[1])
    }
    return try match(against: modules, strict: strict)
  }

  /// Loads one layer's matrices; a NaN or infinity is an error.
  public func load(_ layer: LoRALayer) throws(LoRAError) -> LoRAPair {
    do throws(WeightsError) {
      return LoRAPair(
        adapterIndex: 0, down: try tensors.load(layer.downKey), up: try tensors.load(layer.upKey),
        scale: layer.scale)
    } catch {
      throw .file(error)
    }
  }

  /// What the file says about itself, without a model.
  public var report: LoRAReport { report(matched: layers, unmatched: otherKeys, untouched: []) }

  /// The model the file seems to be made for, as a short noun phrase.
  public var seemsFor: String? {
    LoRATarget.guess(modules: layers.map(\.module) + otherKeys, layers: layers) { metadata($0) }
  }

  private func report(matched: [LoRALayer], unmatched: [String], untouched: [String]) -> LoRAReport {
    let scales = matched.map(\.scale)
    let counts = scales.reduce(into: [Float: Int]()) { $0[$1, default: 0] += 1 }
    let common = counts.max { ($0.value, $0.key) < ($1.value, $1.key) }?.key ?? 1
    return LoRAReport(
      file: name, dialect: dialect, ranks: Set(matched.map(\.rank)).sorted(),
      rules: LoRAAlphaRule.allCases.filter { rule in matched.contains { $0.rule == rule } },
      scales: (scales.min() ?? 1)...(scales.max() ?? 1), effectiveScale: common,
      matchedKeys: matched.reduce(0) { $0 + $1.keyCount }, totalKeys: totalKeys, unmatched: unmatched,
      untouched: untouched, seemsFor: seemsFor)
  }
}
