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
}

extension LoRAFile {
  /// Loads the updates that fit a model whose layers have weights of these shapes, by module path.
  ///
  /// Strict: a key that matches nothing is an error. Not strict: such keys are only reported, but an adapter
  /// that matches nothing at all, or a layer of another width, is an error all the same.
  public func match(against modules: [String: [Int]], strict: Bool) throws(LoRAError) -> LoRAMatch {
    try match(ModelLayers(modules), strict: strict)
  }

  /// Loads the updates that fit the layers of a model: every module with a `weight`.
  public func match(against model: any WeightSource, strict: Bool) throws(LoRAError) -> LoRAMatch {
    try match(ModelLayers(model), strict: strict)
  }

  private func match(_ model: ModelLayers, strict: Bool) throws(LoRAError) -> LoRAMatch {
    var matched: [(path: String, layer: LoRALayer)] = []
    var unmatched: [String] = []
    var targets: [String: LoRALayer] = [:]
    for layer in layers {
      guard let path = try model.path(of: layer, file: name) else {
        unmatched += layer.keys.values.sorted()
        continue
      }
      if let first = targets.updateValue(layer, forKey: path) {
        throw .duplicateTarget(
          file: name, module: path, first: first.keys.values.sorted().first ?? first.module,
          second: layer.keys.values.sorted().first ?? layer.module)
      }
      matched.append((path, layer))
    }
    unmatched += otherKeys
    // A wrong width tells more than the blocks that a smaller model lacks.
    for (path, layer) in matched where !model.fits(layer, path) {
      throw .shape(
        file: name, module: path, expected: model.shapes[path] ?? [],
        found: layer.inputs == 0 ? [layer.outputs] : [layer.outputs, layer.inputs], seemsFor: seemsFor,
        model: model.name)
    }
    if matched.isEmpty || (strict && !unmatched.isEmpty) {
      throw .unmatched(
        file: name, unmatched: unmatched.count, total: totalKeys, examples: Array(unmatched.prefix(3)),
        seemsFor: seemsFor, model: model.name)
    }
    var updates: [String: LayerUpdate] = [:]
    for (path, layer) in matched { updates[path] = try load(layer) }
    let linear = model.shapes.filter { $0.value.count == 2 }
    let report = report(
      matched: matched.map(\.layer), unmatched: unmatched,
      untouched: linear.keys.filter { updates[$0] == nil }.sorted())
    let stated = try statedNorms()
    let norms = matched.compactMap { match in stated[match.layer.module].map { (match.path, $0) } }
    return LoRAMatch(
      updates: updates, report: report, role: role, control: try controlToken(),
      statedNorms: Dictionary(norms, uniquingKeysWith: { first, _ in first }))
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
