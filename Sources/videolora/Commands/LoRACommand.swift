import ArgumentParser
import DiffusionLayers

/// `videolora lora …`: looks into adapter files and writes them in other forms.
struct LoRACommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lora", abstract: "Look into adapter files, rename them for other tools, add them up.",
    subcommands: [
      LoRAInspect.self, LoRAConvert.self, LoRAMergeCommand.self, LoRAReportCommand.self,
      LoRACalibrate.self,
    ])
}

/// Says what an adapter file is and whether it fits a model.
struct LoRAInspect: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract:
      "Say how an adapter is named and scaled, what it changes and how much; with --model, what fits.",
    discussion: "Example: videolora lora inspect style.safetensors --model builtin:nano")

  @Argument(help: "Adapter file, folder with an adapter, or builtin:NAME.")
  var path: String

  @Option(help: "Model directory that the adapter is matched against.")
  var model: String?

  @Flag(help: "Print the result as JSON.")
  var json = false

  func run() throws { try AdapterSummary(path, model: model).show(json: json) }
}

/// The naming scheme that a file is written in.
struct DialectArgument: ExpressibleByArgument {
  let dialect: LoRADialect

  init?(argument: String) {
    guard let dialect = LoRADialect(rawValue: argument == "comfy" ? "comfyui" : argument),
      LoRAWriter.dialects.contains(dialect)
    else { return nil }
    self.dialect = dialect
  }

  init(_ dialect: LoRADialect) { self.dialect = dialect }

  var defaultValueDescription: String { dialect.rawValue }
  static var allValueStrings: [String] { LoRAWriter.dialects.map(\.rawValue) }
}

/// Writes an adapter under other names.
struct LoRAConvert: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "convert",
    abstract: "Write an adapter under the names of another tool; the numbers stay as they are.",
    discussion: """
      Example: videolora lora convert style.safetensors --to kohya --output style.kohya.safetensors
      Alphas are kept where the scheme can hold them (diffusers, comfyui, kohya, videox-fun); elsewhere alpha / rank \
      is multiplied into the up matrices, and a line on stderr says so.
      """)

  @Argument(help: "Adapter file, folder with an adapter, or builtin:NAME.")
  var path: String

  @Option(help: "Naming scheme of the output.")
  var to: DialectArgument

  @Option(help: "The .safetensors file to write.")
  var output: String

  func run() throws {
    let notes = try LoRAWriter.convert(try LoRAFile(path: path), to: to.dialect, path: output)
    try finish(output, notes)
  }
}

/// Adds adapters up into one file.
struct LoRAMergeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "merge",
    abstract: "Add adapters up, each times its strength, into one adapter file.",
    discussion: """
      Example: videolora lora merge style.safetensors=0.8 motion.safetensors=1 --output both.safetensors
      The ranks stand side by side, so the result is the exact sum. --compose norm and projected change the adapters \
      first, as they do in a run.
      """)

  @Argument(
    help: ArgumentHelp("Adapter files and their strengths, -4…4.", valueName: "FILE=S"),
    transform: AdapterArgument.constant)
  var adapters: [AdapterArgument]

  @Option(help: "How the adapters are combined.")
  var compose = ComposeMode.sum

  @Option(help: "Naming scheme of the output.")
  var to = DialectArgument(.diffusers)

  @Option(help: "The .safetensors file to write.")
  var output: String

  func run() throws {
    var parts: [(file: LoRAFile, strength: Float)] = []
    for adapter in adapters {
      parts.append((try LoRAFile(path: adapter.path), adapter.curve.constant ?? 1))
    }
    try finish(output, try LoRAMerge.sum(parts, compose: compose, as: to.dialect, path: output))
  }
}

/// Tells what was written; notes go to stderr.
private func finish(_ output: String, _ notes: [String]) throws {
  for note in notes { Console.error("videolora: note: \(note)") }
  let file = try LoRAFile(path: output)
  let ranks = file.report.ranks.map { "\($0)" }.joined(separator: ", ")
  print("\(output): \(file.dialect.name), \(file.layers.count) layers, rank \(ranks.isEmpty ? "-" : ranks)")
}
