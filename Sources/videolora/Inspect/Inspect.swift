import ArgumentParser
import DiffusionLayers
import DiffusionModels
import DiffusionPipelines
import Glibc

/// Says what a model directory or an adapter file is.
struct Inspect: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Say what a model directory or an adapter file is; with --model, which of its keys match.",
    discussion: "Example: videolora inspect style.safetensors --model builtin:nano")

  @Argument(help: "Model directory, adapter or other .safetensors file, or a builtin name.")
  var path: String

  @Option(help: "Model directory that an adapter is matched against.")
  var model: String?

  @Flag(help: "Print the result as JSON.")
  var json = false

  func run() throws {
    if isModel {
      guard model == nil else { throw CLIError("--model is for adapter files; '\(path)' is a model itself") }
      try ModelSummary.read(path).show(json: json)
    } else if let file = try? SafetensorsFile(path: adapterFile), !Self.looksLikeAdapter(file) {
      if ModelSurvey.isModel(file.names) {
        try ModelSummary.original(path).show(json: json)
        return
      }
      try TensorFileSummary(file, kind: MotionModuleNaming.detect(file.names)?.summary).show(json: json)
    } else {
      try AdapterSummary(path, model: model).show(json: json)
    }
  }

  /// A folder with an adapter inside counts as an adapter.
  private var isModel: Bool {
    if path.hasPrefix("builtin:") {
      return BuiltinFiles.models.contains(String(path.dropFirst("builtin:".count)))
    }
    var status = stat()
    guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else { return false }
    return adapterFile == path
  }

  private var adapterFile: String {
    for name in ["adapter_model.safetensors", "pytorch_lora_weights.safetensors"] {
      let file = path.hasSuffix("/") ? path + name : "\(path)/\(name)"
      if access(file, F_OK) == 0 { return file }
    }
    return path
  }

  private static func looksLikeAdapter(_ file: SafetensorsFile) -> Bool {
    let marks = ["lora", "hada_", "lokr_", "matrix_A", "alpha"]
    return file.names.contains { name in marks.contains { name.contains($0) } }
  }
}

extension MotionModuleNaming {
  /// What a file with these names is.
  fileprivate var summary: String {
    "an AnimateDiff motion module under \(isOriginal ? "the official" : "diffusers'") names; use it with motion-module"
  }
}

/// Any other safetensors file: its dtypes and sizes.
struct TensorFileSummary {
  let file: SafetensorsFile
  /// What the file is; nil for one that is not known.
  let kind: String?

  init(_ file: SafetensorsFile, kind: String? = nil) {
    self.file = file
    self.kind = kind
  }

  func show(json: Bool) throws {
    if json {
      let tensors = file.names.map { name -> JSONValue in
        let entry = file.entries[name]
        return .object([
          "name": .string(name), "dtype": .string(entry?.dtype.safetensorsName ?? ""),
          "shape": .array((entry?.shape ?? []).map { .integer($0) }),
        ])
      }
      print(
        JSONValue.object([
          "kind": .string(kind == nil ? "tensors" : "motion-module"), "path": .string(file.name),
          "tensors": .array(tensors),
        ]))
      return
    }
    print("\(file.name): \(file.names.count) tensors, \(kind ?? "neither an adapter nor a model directory")")
    var table = TextTable("tensor", "dtype", "shape")
    for name in file.names {
      guard let entry = file.entries[name] else { continue }
      table.add(name, entry.dtype.safetensorsName, "\(entry.shape)")
    }
    print(table.text)
  }
}
