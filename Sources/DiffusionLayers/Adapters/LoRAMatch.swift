import TensorCore

/// An adapter loaded for one model: its updates by layer, ready for `AdaptedSource`.
public struct LoRAMatch: Sendable {
  /// Updates by module path, such as `blocks.3.attn1.to_q`.
  public let updates: [String: LayerUpdate]
  public let report: LoRAReport
  /// What the adapter is for; adapters of one role are composed as a group.
  public var role: String?
  /// The strength token, if it has one.
  public let control: ControlToken?
  /// ‖dW‖ by module path as the file states it.
  let statedNorms: [String: Double]

  /// What the updates take in memory.
  public var bytes: Int {
    updates.values.reduce(0) { sum, update in
      let change =
        switch update.weight {
        case .lowRank(let pair): pair.down.count + pair.up.count
        case .full(let change): change.count
        case nil: 0
        }
      return sum + DType.float32.byteSize * (change + (update.bias?.count ?? 0))
    }
  }
}

extension LoRAFile {
  /// Loads the updates that fit a model whose layers have weights of these shapes, by module path.
  ///
  /// Strict: a key that matches nothing is an error. Not strict: such keys are only reported, but an adapter
  /// that matches nothing at all, or a layer of another width, is an error all the same.
  public func match(against modules: [String: [Int]], strict: Bool) throws(LoRAError) -> LoRAMatch {
    try denoiser(of: match([ModelLayers(modules)], strict: strict))
  }

  /// Loads the updates that fit the layers of a model: every module with a `weight`.
  public func match(against model: any WeightSource, strict: Bool) throws(LoRAError) -> LoRAMatch {
    try denoiser(of: match([ModelLayers(model)], strict: strict))
  }

  /// Loads the updates for several parts of a pipeline, such as a denoiser and its text encoder. An adapter may leave out
  /// parts, whose updates are empty then, but not all of them.
  /// - Returns: a match for each part, all with the report of the whole file.
  public func match(against parts: [LoRAComponent: any WeightSource], strict: Bool) throws(LoRAError)
    -> [LoRAComponent: LoRAMatch]
  {
    try match(
      LoRAComponent.allCases.compactMap { component in
        parts[component].map { ModelLayers($0, component: component) }
      }, strict: strict)
  }

  private func denoiser(of matches: [LoRAComponent: LoRAMatch]) throws(LoRAError) -> LoRAMatch {
    guard let match = matches[.denoiser] else { preconditionFailure("a match without a denoiser") }
    return match
  }

  private func match(_ parts: [ModelLayers], strict: Bool) throws(LoRAError) -> [LoRAComponent: LoRAMatch] {
    var matched: [(path: String, layer: LoRALayer, part: ModelLayers)] = []
    var (unmatched, skipped): ([String], [String]) = ([], [])
    var targets: [String: LoRALayer] = [:]
    for layer in layers {
      guard let part = parts.first(where: { $0.component == layer.component }),
        let path = try part.path(of: layer, file: name)
      else {
        let keys = layer.keys.values.sorted()
        if parts.contains(where: { $0.lacksMiddleMotion(layer) }) {
          skipped += keys
        } else {
          unmatched += keys
        }
        continue
      }
      if let first = targets.updateValue(layer, forKey: "\(part.component.rawValue) \(path)") {
        throw .duplicateTarget(
          file: name, module: path, first: first.keys.values.sorted().first ?? first.module,
          second: layer.keys.values.sorted().first ?? layer.module)
      }
      matched.append((path, layer, part))
    }
    unmatched += otherKeys
    // A wrong width tells more than the blocks that a smaller model lacks.
    for (path, layer, part) in matched where !part.fits(layer, path) {
      throw .shape(
        file: name, module: path, expected: part.shapes[path] ?? [],
        found: layer.inputs == 0 ? [layer.outputs] : [layer.outputs, layer.inputs], seemsFor: seemsFor,
        model: parts.first?.name)
    }
    if matched.isEmpty || (strict && !unmatched.isEmpty) {
      let unmatched = unmatched.isEmpty ? skipped : unmatched
      throw .unmatched(
        file: name, unmatched: unmatched.count, total: totalKeys, examples: Array(unmatched.prefix(3)),
        seemsFor: seemsFor, model: parts.first?.name)
    }
    var updates: [LoRAComponent: [String: LayerUpdate]] = [:]
    for (path, layer, part) in matched { updates[part.component, default: [:]][path] = try load(layer) }
    let untouched = parts.flatMap { part in
      part.shapes.filter { $0.value.count == 2 && updates[part.component]?[$0.key] == nil }.map(\.key)
    }
    let report = report(
      matched: matched.map(\.layer), unmatched: unmatched, skipped: skipped, untouched: untouched.sorted())
    let stated = try statedNorms()
    let control = try controlToken()
    var result: [LoRAComponent: LoRAMatch] = [:]
    for part in parts {
      let own = matched.filter { $0.part.component == part.component }
      let norms = own.compactMap { match in stated[match.layer.module].map { (match.path, $0) } }
      result[part.component] = LoRAMatch(
        updates: updates[part.component] ?? [:], report: report, role: role,
        control: part.component == .denoiser ? control : nil,
        statedNorms: Dictionary(norms, uniquingKeysWith: { first, _ in first }))
    }
    return result
  }

  /// Loads one layer's tensors; a NaN or infinity is an error.
  public func load(_ layer: LoRALayer) throws(LoRAError) -> LayerUpdate {
    do throws(WeightsError) {
      var weight: LayerUpdate.Change?
      if let down = layer.keys[.down], let up = layer.keys[.up] {
        weight = .lowRank(
          LoRAPair(
            down: try tensors.load(down).reshaped([layer.rank, layer.inputs]),
            up: try tensors.load(up).reshaped([layer.outputs, layer.rank]), scale: layer.scale))
      } else if let full = layer.keys[.full] {
        let change = try tensors.load(full)
        weight = .full(layer.isVector ? change : change.reshaped([layer.outputs, layer.inputs]))
      }
      var bias: Tensor?
      if let key = layer.keys[.bias] {
        bias = try tensors.load(key)
      } else if let key = layer.keys[.upBias] {
        bias = try tensors.load(key) * layer.scale
      }
      return LayerUpdate(adapterIndex: 0, weight: weight, bias: bias)
    } catch {
      throw .file(error)
    }
  }
}
