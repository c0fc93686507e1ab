import ArgumentParser
import DiffusionLayers

/// Says how much adapters get into each other's way.
struct LoRAReportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "report",
    abstract: "Say how much adapters get into each other's way: norms, norm ratios and cosines by block.",
    discussion: """
      Example: videolora lora report pan.safetensors zoom.safetensors
      |cosine| is taken between the updates of one layer: 0 for adapters that do not touch each other, 1 for the same \
      direction. The norm ratio is the largest norm over the smallest, raw and under --compose norm.
      """)

  @Argument(help: "Two or more adapter files.")
  var adapters: [String]

  @Flag(help: "List every layer, not the blocks only.")
  var layers = false

  @Flag(help: "Print the result as JSON.")
  var json = false

  func validate() throws {
    guard adapters.count > 1 else { throw ValidationError("name two or more adapters.") }
  }

  func run() throws {
    let report = try AdapterInterference(adapters.map { try LoRAFile(path: $0) })
    guard !report.layers.isEmpty else { throw CLIError("these adapters change no layer in common") }
    print(json ? jsonValue(report).serialized(pretty: true) : text(report))
  }

  private func text(_ report: AdapterInterference) -> String {
    var table = TextTable("block", "layer", "|cosine|", "norm ratio", "composed")
    if layers {
      for layer in report.layers {
        table.add(
          layer.block.map { "\($0)" } ?? "-", layer.module, fixed(layer.cosine, 4), fixed(layer.normRatio, 4),
          fixed(layer.composedRatio, 4))
      }
    } else {
      for block in report.blocks {
        let own = report.layers.filter { $0.block == block.index }
        table.add(
          "\(block.index)", "\(own.count) layers", fixed(block.cosine, 4), fixed(block.normRatio, 4),
          fixed(own.map(\.composedRatio).max() ?? 1, 4))
      }
    }
    let trend = report.depthCorrelation.map { "Spearman of |cosine| with depth: \(fixed($0, 3))" }
    return [
      table.text,
      "orthogonal (|cosine| ≤ \(AdapterInterference.threshold)): the first \(report.orthogonalPrefix) of "
        + "\(report.blocks.count) blocks", trend,
    ].compactMap { $0 }.joined(separator: "\n")
  }

  private func jsonValue(_ report: AdapterInterference) -> JSONValue {
    let layers = report.layers.map { layer -> JSONValue in
      [
        "module": .string(layer.module), "block": layer.block.map { .integer($0) } ?? .null,
        "norms": .array(layer.norms.map { .number($0) }), "norm_ratio": .number(layer.normRatio),
        "composed_ratio": .number(layer.composedRatio), "cosine": .number(layer.cosine),
      ]
    }
    let blocks = report.blocks.map { block -> JSONValue in
      [
        "block": .integer(block.index), "cosine": .number(block.cosine),
        "norm_ratio": .number(block.normRatio),
      ]
    }
    return [
      "adapters": .array(report.files.map { .string($0) }), "layers": .array(layers),
      "blocks": .array(blocks),
      "orthogonal_prefix": .integer(report.orthogonalPrefix),
      "depth_correlation": report.depthCorrelation.map { .number($0) } ?? .null,
    ]
  }
}
