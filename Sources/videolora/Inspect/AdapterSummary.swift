import DiffusionLayers
import DiffusionPipelines
import Glibc
import TensorCore

/// An adapter file: how it is named and scaled, what it touches and how strongly.
struct AdapterSummary {
  /// One adapted layer.
  struct Layer {
    var component: LoRAComponent
    var module: String
    var rank: Int
    var scale: Float
    /// The Frobenius norm of the change of the weight: scale times that of B·A for a pair.
    var norm: Double

    /// The path, with the component where it is not the denoiser.
    var name: String { component == .denoiser ? module : "\(component.rawValue).\(module)" }
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
      Layer(
        component: layer.component, module: layer.module, rank: layer.rank, scale: layer.scale,
        norm: try file.load(layer).weight?.norm ?? 0)
    }
    match = try model.flatMap { path in
      try file.match(against: try VideoModel.adaptableLayers(of: path), strict: false)[.denoiser]?.report
    }
  }

  private var role: String { file.role ?? "auto" }

  /// Kinds of layers and how many of each, such as `attn1.to_q × 5`.
  private var targets: [(name: String, count: Int)] {
    var counts: [String: Int] = [:]
    for layer in layers { counts[Self.kind(of: layer), default: 0] += 1 }
    return counts.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }

  /// The path below the innermost numbered block, with what tells text encoders and motion modules apart.
  private static func kind(of layer: Layer) -> String {
    let parts = layer.module.split(separator: ".")
    let lists = ["blocks", "layers", "attentions", "resnets", "downsamplers", "upsamplers", "motion_modules"]
    let start = parts.indices.last { index in
      index > 0 && Int(parts[index]) != nil && lists.contains { parts[index - 1].hasSuffix($0) }
    }
    let kind = start.map { parts[($0 + 1)...] } ?? parts[...]
    let place = parts.contains("motion_modules") ? "motion." : ""
    let component = layer.component == .denoiser ? "" : layer.component.rawValue + "."
    return component + place + kind.joined(separator: ".")
  }

  func show(json: Bool) throws {
    let report = file.report
    if json { return print(value(report)) }
    print("\(path): \(report.dialect.name)")
    print("role              \(role)")
    print("family            \(file.family?.name ?? "unknown")")
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
    for layer in layers { table.add(layer.name, "\(layer.rank)", "\(layer.scale)", fixed(layer.norm, 4)) }
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
      "role": .string(role), "family": file.family.map { .string($0.rawValue) } ?? .null,
      "ranks": .array(report.ranks.map { .integer($0) }),
      "alpha_rules": strings(report.rules.map(\.rawValue)),
      "effective_scale": .number(Double(report.effectiveScale)),
      "seems_for": report.seemsFor.map { .string($0) } ?? .null,
      "targets": .object(targets.reduce(into: JSONObject()) { $0[$1.name] = .integer($1.count) }),
      "layers": .array(
        layers.map {
          .object([
            "component": .string($0.component.rawValue), "module": .string($0.module),
            "rank": .integer($0.rank), "scale": .number(Double($0.scale)), "norm": .number($0.norm),
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
