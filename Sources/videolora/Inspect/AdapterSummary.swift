import DiffusionLayers
import Glibc
import TensorCore

/// An adapter file: how it is named and scaled, what it touches and how strongly.
struct AdapterSummary {
  /// One adapted layer.
  struct Layer {
    var module: String
    var rank: Int
    var scale: Float
    /// scale times the Frobenius norm of B·A.
    var norm: Double
  }

  let path: String
  let file: LoRAFile
  let layers: [Layer]
  let match: LoRAReport?

  init(_ path: String, model: String?) throws {
    self.path = path
    let file = try LoRAFile(path: path)
    self.file = file
    layers = try file.layers.map { layer in
      let pair = try file.load(layer)
      return Layer(
        module: layer.module, rank: layer.rank, scale: layer.scale,
        norm: Double(layer.scale) * Self.norm(pair))
    }
    match = try model.map { path in
      let weights = try SafetensorsSource(try ModelDirectory(path), component: "transformer")
      return try file.match(against: weights, strict: false).report
    }
  }

  /// ‖BA‖ without the product: its square is tr((BᵀB)(AAᵀ)), two matrices of rank by rank.
  static func norm(_ pair: LoRAPair) -> Double {
    let (a, b) = (pair.down.array(), pair.up.array())
    let rank = pair.rank
    let (inputs, outputs) = (a.count / max(1, rank), b.count / max(1, rank))
    var sum = 0.0
    for i in 0..<rank {
      for j in 0..<rank {
        var (left, right) = (0.0, 0.0)
        for o in 0..<outputs { left += Double(b[o * rank + i]) * Double(b[o * rank + j]) }
        for k in 0..<inputs { right += Double(a[j * inputs + k]) * Double(a[i * inputs + k]) }
        sum += left * right
      }
    }
    return max(0, sum).squareRoot()
  }

  private var role: String { file.metadata("role") ?? "auto" }

  /// Kinds of layers and how many of each, such as `attn1.to_q × 5`.
  private var targets: [(name: String, count: Int)] {
    var counts: [String: Int] = [:]
    for layer in layers {
      let parts = layer.module.split(separator: ".").drop { $0 == "blocks" || Int($0) != nil }
      counts[parts.joined(separator: "."), default: 0] += 1
    }
    return counts.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }

  func show(json: Bool) throws {
    let report = file.report
    if json { return print(value(report)) }
    print("\(path): \(report.dialect.name)")
    print("role              \(role)")
    print("rank              \(report.ranks.map { "\($0)" }.joined(separator: ", "))")
    print("alpha rule        \(report.rules.map(\.name).joined(separator: ", "))")
    let range =
      report.scales.lowerBound == report.scales.upperBound
      ? "" : " (\(report.scales.lowerBound)…\(report.scales.upperBound))"
    print("effective scale   \(report.effectiveScale)\(range)")
    print("targets           \(targets.map { "\($0.name) × \($0.count)" }.joined(separator: ", "))")
    if let guess = report.seemsFor { print("seems made for    \(guess)") }
    if let match {
      print("matched           \(match.matchedKeys) of \(match.totalKeys) keys")
      print("unmatched         \(list(match.unmatched))")
      print("missing           \(list(match.untouched))")
    }
    var table = TextTable("layer", "rank", "scale", "norm of the update")
    for layer in layers { table.add(layer.module, "\(layer.rank)", "\(layer.scale)", fixed(layer.norm, 4)) }
    print(table.text)
  }

  private func list(_ names: [String]) -> String {
    let more = names.count > 8 ? " … (\(names.count - 8) more, see --json)" : ""
    return names.isEmpty ? "none" : "\(names.count): " + names.prefix(8).joined(separator: " ") + more
  }

  private func value(_ report: LoRAReport) -> JSONValue {
    func strings(_ list: [String]) -> JSONValue { .array(list.map { .string($0) }) }
    var object: JSONObject = [
      "kind": "adapter", "path": .string(path), "dialect": .string(report.dialect.rawValue),
      "role": .string(role),
      "ranks": .array(report.ranks.map { .integer($0) }),
      "alpha_rules": strings(report.rules.map(\.rawValue)),
      "effective_scale": .number(Double(report.effectiveScale)),
      "seems_for": report.seemsFor.map { .string($0) } ?? .null,
      "targets": .object(targets.reduce(into: JSONObject()) { $0[$1.name] = .integer($1.count) }),
      "layers": .array(
        layers.map {
          .object([
            "module": .string($0.module), "rank": .integer($0.rank), "scale": .number(Double($0.scale)),
            "norm": .number($0.norm),
          ])
        }),
    ]
    if let match {
      object["matched_keys"] = .integer(match.matchedKeys)
      object["total_keys"] = .integer(match.totalKeys)
      object["unmatched"] = strings(match.unmatched)
      object["missing"] = strings(match.untouched)
    }
    return .object(object)
  }
}
