import TensorCore

/// How several adapters become one.
public enum LoRAMerge {
  /// Writes the sum of the files' updates, each times its strength, as one adapter: the ranks stand side by side,
  /// so the result is the sum itself and no approximation. `compose` changes the updates first, as in a run.
  /// - Returns: sentences about what the scheme could not hold as it was.
  /// - Throws: `LoRAError.conversion` when the files are made for other models or for models of other widths, or when
  ///   one drives its strength by a token, which a sum cannot hold.
  public static func sum(
    _ parts: [(file: LoRAFile, strength: Float)], compose: ComposeMode = .sum, as dialect: LoRADialect,
    path: String
  ) throws(LoRAError) -> [String] {
    if let file = parts.first(where: { !$0.file.controlKeys.isEmpty })?.file {
      throw .conversion(
        file: path,
        reason:
          "'\(file.name)' drives its strength by a token, which is lost in a sum; load it beside the others")
    }
    let active = parts.filter { $0.strength != 0 }
    let fused = try compose == .sum ? [:] : fusedUpdates(active.map(\.file))
    var result = AdapterContents()
    var places: [String: Int] = [:]
    var (first, family): (String, LoRAFamily?) = ("", nil)
    for (part, (file, strength)) in active.enumerated() {
      if let other = file.family, let family, !other.sharesPipeline(with: family) {
        throw .conversion(
          file: path, reason: "'\(first)' is made for \(family.name) and '\(file.name)' for \(other.name)")
      }
      if family == nil { (first, family) = (file.name, file.family) }
      for layer in try AdapterContents(file).layers {
        let key = identity(layer.component, layer.module)
        let update = fused[key]?.first { $0.adapterIndex == part }
        let scaled = weighted(update.map { composed(layer, $0, compose) } ?? layer, strength)
        guard let place = places[key] else {
          places[key] = result.layers.count
          result.layers.append(scaled)
          continue
        }
        result.layers[place] = try sum(result.layers[place], scaled, file.name)
      }
    }
    guard !result.layers.isEmpty, let start = parts.first else {
      throw .conversion(file: path, reason: "every strength is 0, so nothing is left to write")
    }
    result.layers = result.layers.map(compact)
    let sources = parts.map { "\($0.file.name)=\($0.strength)" }.joined(separator: " ")
    result.metadata = [("merged_from", sources)] + (compose == .sum ? [] : [("compose", compose.rawValue)])
    return try LoRAWriter.write(result, as: dialect, path: path, for: start.file.name)
  }

  private static func identity(_ component: LoRAComponent, _ module: String) -> String {
    "\(component.rawValue) \(module)"
  }

  /// The updates of all files by layer, with what they mean for each other.
  private static func fusedUpdates(_ files: [LoRAFile]) throws(LoRAError) -> [String: [LayerUpdate]] {
    var updates: [String: [LayerUpdate]] = [:]
    var stated: [[String: Double]] = []
    for (index, file) in files.enumerated() {
      let norms = try file.statedNorms()
      var own: [String: Double] = [:]
      for layer in file.layers {
        var update = try file.load(layer)
        update.adapterIndex = index
        updates[identity(layer.component, layer.module), default: []].append(update)
        own[identity(layer.component, layer.module)] = norms[layer.module]
      }
      stated.append(own)
    }
    AdapterFusion.fuse(&updates, roles: files.map { $0.role ?? "" }, stated: stated)
    return updates
  }

  /// A layer as a compose mode has it beside the others.
  private static func composed(
    _ layer: AdapterContents.Layer, _ update: LayerUpdate, _ mode: ComposeMode
  ) -> AdapterContents.Layer {
    var layer = layer
    switch (mode, update.fusion) {
    case (.norm, let fusion?):
      layer.factor *= Double(fusion.normGain)
      layer.full = layer.full?.scaled(by: fusion.normGain)
    case (.projected, let fusion?):
      if let pair = fusion.projected?.value, let down = layer.down {
        layer.down = StoredTensor(pair.down.array(), shape: down.shape, as: .float32)
      }
    default: break
    }
    return layer
  }

  /// A layer whose factor and strength are part of its tensors.
  private static func weighted(_ layer: AdapterContents.Layer, _ strength: Float) -> AdapterContents.Layer {
    var layer = layer
    layer.up = layer.up?.scaled(by: Float(Double(strength) * layer.factor))
    layer.factor = 1
    layer.full = layer.full?.scaled(by: strength)
    layer.bias = layer.bias?.scaled(by: strength)
    return layer
  }

  private static func sum(
    _ a: AdapterContents.Layer, _ b: AdapterContents.Layer, _ file: String
  ) throws(LoRAError) -> AdapterContents.Layer {
    guard widths(a) == widths(b) || a.outputs == b.outputs && (a.isBiasOnly || b.isBiasOnly) else {
      throw .conversion(
        file: file,
        reason:
          "its update of '\(a.module)' is \(widths(b)) and that of the files before it \(widths(a)) (out, in)"
      )
    }
    var sum = a
    sum.bias = add(a.bias, b.bias)
    switch (a.down, a.up, b.down, b.up) {
    case (let down?, let up?, let otherDown?, let otherUp?):
      sum.down = stacked(down, otherDown)
      sum.up = sideBySide(up, otherUp)
    case (nil, nil, _?, _?) where a.full == nil: (sum.down, sum.up) = (b.down, b.up)
    case (_?, _?, nil, nil) where b.full == nil: break
    default:
      sum.full = add(a.full ?? product(a), b.full ?? product(b))
      (sum.down, sum.up) = (nil, nil)
    }
    return sum
  }

  private static func widths(_ layer: AdapterContents.Layer) -> [Int] {
    if let full = layer.full {
      return full.shape.count == 1 ? full.shape : [full.shape[0], full.count / full.shape[0]]
    }
    guard let down = layer.down, let up = layer.up else { return layer.bias?.shape ?? [] }
    return [up.shape[0], down.count / down.shape[0]]
  }

  private static func add(_ a: StoredTensor?, _ b: StoredTensor?) -> StoredTensor? {
    guard let a, let b else { return a ?? b }
    return StoredTensor(zip(a.floats, b.floats).map { $0 + $1 }, shape: a.shape, as: a.dtype)
  }

  /// Rows of the second matrix under those of the first.
  private static func stacked(_ a: StoredTensor, _ b: StoredTensor) -> StoredTensor {
    let shape = [a.shape[0] + b.shape[0]] + a.shape.dropFirst()
    if a.dtype == b.dtype { return StoredTensor(dtype: a.dtype, shape: shape, bytes: a.bytes + b.bytes) }
    return StoredTensor(a.floats + b.floats, shape: shape, as: .float32)
  }

  /// Columns of the second matrix beside those of the first.
  private static func sideBySide(_ a: StoredTensor, _ b: StoredTensor) -> StoredTensor {
    let (rows, left, right) = (a.shape[0], a.shape[1], b.shape[1])
    let (first, second) = (a.floats, b.floats)
    var values: [Float] = []
    values.reserveCapacity(first.count + second.count)
    for row in 0..<rows {
      values += first[row * left..<(row + 1) * left]
      values += second[row * right..<(row + 1) * right]
    }
    return StoredTensor(
      values, shape: [rows, left + right] + a.shape.dropFirst(2), as: a.dtype == b.dtype ? a.dtype : .float32)
  }

  /// The whole change that a pair stands for.
  private static func product(_ layer: AdapterContents.Layer) -> StoredTensor? {
    guard let down = layer.down, let up = layer.up else { return nil }
    let (rank, outputs) = (down.shape[0], up.shape[0])
    let inputs = down.count / rank
    let (a, b) = (down.floats, up.floats)
    var values = [Float](repeating: 0, count: outputs * inputs)
    for row in 0..<outputs {
      for k in 0..<rank {
        let factor = b[row * rank + k]
        for column in 0..<inputs { values[row * inputs + column] += factor * a[k * inputs + column] }
      }
    }
    return StoredTensor(values, shape: [outputs] + down.shape.dropFirst(), as: .float32)
  }

  /// A pair of a rank that exceeds both widths is as well written as the product itself beside a unit matrix.
  private static func compact(_ layer: AdapterContents.Layer) -> AdapterContents.Layer {
    guard let down = layer.down, let up = layer.up,
      down.shape[0] > max(up.shape[0], down.count / down.shape[0]),
      let product = product(layer)
    else { return layer }
    let outputs = up.shape[0]
    var unit = [Float](repeating: 0, count: outputs * outputs)
    for index in 0..<outputs { unit[index * outputs + index] = 1 }
    var result = layer
    result.down = product
    result.up = StoredTensor(unit, shape: [outputs, outputs] + up.shape.dropFirst(2), as: up.dtype)
    return result
  }
}
