public import TensorCore

/// The low-rank pair of one layer while it is trained: what a recipe starts from and what a file gets in the end.
public struct AdapterFactors: Sendable {
  /// The layer's path in diffusers' naming, such as `blocks.3.attn1.to_q`.
  public let module: String
  /// A, `[rank, in]`.
  public var down: Tensor
  /// B, `[out, rank]`.
  public var up: Tensor

  public init(module: String, down: Tensor, up: Tensor) {
    self.module = module
    self.down = down
    self.up = up
  }

  /// A pair for a weight `[out, in]` that changes nothing yet: A uniform within `1 / √in` (torch's
  /// `kaiming_uniform_` with a = √5, as peft draws it), B zero.
  public init(module: String, shape: [Int], rank: Int, random: inout TorchRandom) {
    let bound = 1 / Float(shape[1]).squareRoot()
    self.init(
      module: module, down: random.uniform([rank, shape[1]], in: -bound...bound),
      up: Tensor.zeros([shape[0], rank]))
  }
}

/// Which layers of a model an adapter is trained for.
public enum AdapterTargets {
  /// The linear layers of `source` that `patterns` name, in the order of their names.
  ///
  /// A pattern without `*` names every layer that ends with it, as peft's `target_modules` do (`to_q` means
  /// `blocks.0.attn1.to_q` and its like); one with `*`, which stands for any text, has to match the whole name. `temporal`
  /// names the projections of the attention between frames: of motion modules, or where there are none of the
  /// self-attentions `attn1`.
  /// - Returns: names with the shapes of their weights `[out, in]`.
  /// - Throws: `LoRAError.target` naming the pattern that matches nothing.
  public static func find(_ patterns: [String], in source: any WeightSource) throws(LoRAError)
    -> [(module: String, shape: [Int])]
  {
    let layers = source.names.compactMap { name -> (module: String, shape: [Int])? in
      guard name.hasSuffix(".weight"), let shape = source.shape(of: name), shape.count == 2 else {
        return nil
      }
      return (String(name.dropLast(".weight".count)), shape)
    }.sorted { $0.module.utf8.lexicographicallyPrecedes($1.module.utf8) }
    var chosen: Set<String> = []
    let hasMotionModules = layers.contains { $0.module.contains(".motion_modules.") }
    let temporal = ["to_q", "to_k", "to_v", "to_out.0"].map {
      hasMotionModules ? "*.motion_modules.*.attn*.\($0)" : "attn1.\($0)"
    }
    for pattern in patterns.flatMap({ $0 == "temporal" ? temporal : [$0] }) {
      let found = layers.filter { matches(pattern, $0.module) }
      if found.isEmpty {
        let kinds = Set(layers.compactMap { $0.module.split(separator: ".").last.map(String.init) })
        throw .target(model: source.name, pattern: pattern, known: kinds.filter { Int($0) == nil }.sorted())
      }
      chosen.formUnion(found.map(\.module))
    }
    return layers.filter { chosen.contains($0.module) }
  }

  private static func matches(_ pattern: String, _ module: String) -> Bool {
    guard pattern.contains("*") else { return module == pattern || module.hasSuffix("." + pattern) }
    let parts = pattern.split(separator: "*", omittingEmptySubsequences: false).map { Array($0.utf8) }
    var rest = Array(module.utf8)[...]
    guard rest.starts(with: parts[0]) else { return false }
    rest = rest.dropFirst(parts[0].count)
    for part in parts[1..<(parts.count - 1)] {
      var found = false
      while rest.count >= part.count {
        if rest.starts(with: part) {
          found = true
          break
        }
        rest = rest.dropFirst()
      }
      guard found else { return false }
      rest = rest.dropFirst(part.count)
    }
    let last = parts[parts.count - 1]
    return rest.count >= last.count && rest.suffix(last.count).elementsEqual(last)
  }
}
