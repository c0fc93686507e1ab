/// The layers of a part of a model that adapters may target, by path, and how they are found under other names.
struct ModelLayers {
  /// The part of the pipeline that they make up.
  let component: LoRAComponent
  /// Shapes of the weights by module path, such as `[1536, 1536]` for `blocks.3.attn1.to_q`.
  let shapes: [String: [Int]]
  /// Paths by their spellings with underscores.
  private let underscored: [String: Set<String>]

  init(_ shapes: [String: [Int]], component: LoRAComponent = .denoiser) {
    self.shapes = shapes
    self.component = component
    var underscored: [String: Set<String>] = [:]
    for path in shapes.keys {
      let names = [path] + LoRAFamily.allCases.compactMap { ModuleNames.original(path, of: $0) }
      for name in names { underscored[String(name.map { $0 == "." ? "_" : $0 }), default: []].insert(path) }
    }
    self.underscored = underscored
  }

  /// The layers of a source: every module with a `weight`.
  init(_ model: any WeightSource, component: LoRAComponent = .denoiser) {
    var shapes: [String: [Int]] = [:]
    for tensor in model.names where tensor.hasSuffix(".weight") {
      guard let shape = model.shape(of: tensor), !shape.isEmpty else { continue }
      shapes[String(tensor.dropLast(".weight".count))] = shape
    }
    self.init(shapes, component: component)
  }

  /// The path of the layer that an adapter's layer is meant for, or nil when the model has none. A name with
  /// underscores is looked up among the model's own names; one that several layers share is an error.
  func path(of layer: LoRALayer, file: String) throws(LoRAError) -> String? {
    guard layer.component == component else { return nil }
    guard layer.isUnderscored else { return shapes[layer.module] == nil ? nil : layer.module }
    let candidates = underscored[layer.spelling] ?? []
    if candidates.count > 1 {
      throw .ambiguous(
        file: file, key: layer.keys.values.sorted().first ?? layer.spelling, modules: candidates.sorted())
    }
    return candidates.first ?? (shapes[layer.module] == nil ? nil : layer.module)
  }

  /// Whether an adapter's layer is meant for the motion module of the middle block, which only AnimateDiff v2 has, and this
  /// is a model of another version: there such layers are left out.
  func lacksMiddleMotion(_ layer: LoRALayer) -> Bool {
    let middle = "mid_block.motion_modules."
    return layer.component == component && layer.module.hasPrefix(middle)
      && shapes.keys.contains { $0.contains(".motion_modules.") }
      && !shapes.keys.contains { $0.hasPrefix(middle) }
  }

  /// Whether the widths of an adapter's layer are those of the model's: a kernel counts as part of the input.
  func fits(_ layer: LoRALayer, _ path: String) -> Bool {
    guard let shape = shapes[path], shape[0] == layer.outputs else { return false }
    if layer.isBiasOnly { return true }
    return layer.isVector ? shape.count == 1 : shape.count > 1 && shape[1...].reduce(1, *) == layer.inputs
  }

  /// What the model is, as messages name it.
  var name: String? {
    LoRATarget(
      shapes.sorted { $0.key < $1.key }.map { path, shape in
        LoRATarget.Layer(
          path: path, outputs: shape[0], inputs: shape.count > 1 ? shape[1...].reduce(1, *) : 0)
      }
    ).name
  }
}
