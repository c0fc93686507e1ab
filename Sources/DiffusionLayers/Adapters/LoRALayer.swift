/// One adapted layer of a LoRA file, checked, not loaded yet.
public struct LoRALayer: Sendable, Equatable {
  /// The part of the pipeline it belongs to.
  public let component: LoRAComponent
  /// The layer's path in diffusers' naming, such as `blocks.3.attn1.to_q`.
  public let module: String
  /// The rank of its pair; 0 where the file holds the whole change.
  public let rank: Int
  /// Width of the layer's input: channels times kernel for a convolution, 0 for a norm or a bias alone.
  public let inputs: Int
  /// Width of the layer's output.
  public let outputs: Int
  /// The factor of the pair, from `rule`.
  public var scale: Float { Float(factor) }
  public let rule: LoRAAlphaRule
  /// The factor, unrounded.
  let factor: Double
  /// The name as the file spells it, without prefixes.
  let spelling: String
  /// Whether dots are written as underscores there.
  let isUnderscored: Bool
  /// Families that have such a layer.
  let families: [LoRAFamily]
  /// The file's keys by what they hold.
  let keys: [LoRAKey.Part: String]

  /// How many of the file's keys belong to it.
  var keyCount: Int { keys.count }
  /// Whether the whole change of the weight is stored instead of a pair.
  var isFull: Bool { keys[.full] != nil }
  /// Whether only the bias changes.
  var isBiasOnly: Bool { rank == 0 && !isFull }
  /// Whether the layer is a norm: a change of a vector.
  var isVector: Bool { isFull && inputs == 0 }
}

/// The tensors of one layer, gathered from a file's names.
struct LoRAGroup {
  let name: LoRAName
  var keys: [LoRAKey.Part: String] = [:]

  /// Gathers the tensors of every layer, by component and path.
  ///
  /// - Returns: the groups in the order of component and path, the dialects of the keys of pairs, and the names
  ///   that are no part of an update.
  static func gather(
    _ names: [String], file: String, numbering: CloneofsimoNumbering
  ) throws(LoRAError) -> (groups: [LoRAGroup], dialects: [LoRADialect: Int], others: [String]) {
    var groups: [String: LoRAGroup] = [:]
    var dialects: [LoRADialect: Int] = [:]
    var others: [String] = []
    for key in names.sorted() {
      if let method = AdapterMethod.detect(key) { throw .method(file: file, method: method, tensor: key) }
      guard let parsed = LoRAKey(key) else {
        others.append(key)
        continue
      }
      let name = parsed.spelling == .numbered ? numbering.name(of: parsed.stem) : LoRAName(parsed.stem)
      let identity = "\(name.component.rawValue) \(name.path)"
      var group = groups[identity] ?? LoRAGroup(name: name)
      if let first = group.holder(of: parsed.part) {
        throw .duplicateTarget(file: file, module: name.path, first: first, second: key)
      }
      group.keys[parsed.part] = key
      groups[identity] = group
      if parsed.spelling != nil || [.full, .bias].contains(parsed.part) {
        dialects[LoRADialect.detect(parsed, name), default: 0] += 1
      }
    }
    let sorted = groups.values.sorted {
      ($0.name.component.rawValue, $0.name.path) < ($1.name.component.rawValue, $1.name.path)
    }
    return (sorted, dialects, others)
  }

  /// The key that already holds this part, or one that says the same in another way.
  private func holder(of part: LoRAKey.Part) -> String? {
    switch part {
    case .alpha: keys[.alpha]
    case .down: keys[.down] ?? keys[.full]
    case .up: keys[.up] ?? keys[.full]
    case .full: keys[.full] ?? keys[.down] ?? keys[.up]
    case .upBias, .bias: keys[.upBias] ?? keys[.bias]
    }
  }
}
