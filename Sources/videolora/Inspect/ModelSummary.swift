import DiffusionLayers
import DiffusionPipelines

/// A model directory as its configs and headers describe it; no weight is read.
struct ModelSummary {
  struct Component {
    var name: String
    var className: String
    var files: [String] = []
    var dtypes: [String] = []
    var parameters = 0
    var bytes = 0
    /// What matrices are quantised to, nil where none is.
    var quantization: String?
  }

  let path: String
  let pipeline: String
  let family: String
  let components: [Component]

  /// - Throws: `WeightsError`, `ConfigError` or `PipelineError` when there is no model.
  static func read(_ path: String) throws -> ModelSummary {
    let directory = try ModelDirectory(path)
    guard directory.exists("model_index.json") else { return try original(path) }
    let index = try directory.json("model_index.json")
    let components: [Component] = try index.keys.compactMap { key in
      guard let pair = index[key]?.array, pair.count == 2, let className = pair[1].string else { return nil }
      return try Self.component(key, className, directory)
    }
    return ModelSummary(
      path: path, pipeline: index["_class_name"]?.string ?? "unknown", family: family(components),
      components: components)
  }

  /// Files in no diffusers layout: a folder, or the denoiser's file.
  static func original(_ path: String) throws -> ModelSummary {
    let survey = try ModelSurvey(path)
    return ModelSummary(
      path: path, pipeline: survey.kind, family: survey.family,
      components: survey.components.map { found in
        Component(
          name: found.name, className: found.className, files: [found.file],
          dtypes: found.dtypes.map(\.safetensorsName), parameters: found.parameters, bytes: found.bytes)
      })
  }

  private static func family(_ components: [Component]) -> String {
    let backbone = components.first { $0.name == "transformer" || $0.name == "unet" }?.className ?? "none"
    let families = [
      "WanTransformer3DModel": "wan", "UNetMotionModel": "animatediff",
      "UNet2DConditionModel": components.contains { $0.name == "motion_adapter" }
        ? "animatediff" : "animatediff, with a motion module",
    ]
    return families[backbone] ?? "\(backbone) (not supported yet)"
  }

  private static func component(_ name: String, _ className: String, _ directory: ModelDirectory) throws
    -> Component
  {
    var component = Component(name: name, className: className)
    for file in files(of: name, directory) {
      let source = try directory.source("\(name)/\(file)")
      component.files.append(file)
      component.bytes += source.count
      guard file.hasSuffix(".safetensors") else { continue }
      let tensors = try SafetensorsFile(source: source)
      let scales = tensors.quantizationScales
      if !scales.isEmpty { component.quantization = "int8" }
      component.parameters += tensors.entries.reduce(0) {
        $0 + (scales.contains($1.key) ? 0 : $1.value.count)
      }
      for dtype in Set(tensors.entries.values.map(\.dtype.safetensorsName)).sorted()
      where !component.dtypes.contains(dtype) { component.dtypes.append(dtype) }
    }
    return component
  }

  /// Names of the files in a component's folder, sorted.
  private static func files(of component: String, _ directory: ModelDirectory) -> [String] {
    if directory.path.hasPrefix("builtin:") {
      let prefix = directory.path.dropFirst("builtin:".count) + "/\(component)/"
      return BuiltinFiles.paths.filter { $0.hasPrefix(prefix) }.map { String($0.dropFirst(prefix.count)) }
    }
    let folder = directory.location(of: component)
    return (folderEntries(folder) ?? []).filter { folderEntries("\(folder)/\($0)") == nil }
  }

  func show(json: Bool) throws {
    let parameters = components.reduce(0) { $0 + $1.parameters }
    if json {
      let list = components.map { component in
        JSONValue.object([
          "name": .string(component.name), "class": .string(component.className),
          "parameters": .integer(component.parameters),
          "dtypes": .array(component.dtypes.map { .string($0) }),
          "quantization": component.quantization.map { .string($0) } ?? .null,
          "bytes": .integer(component.bytes), "files": .array(component.files.map { .string($0) }),
        ])
      }
      print(
        JSONValue.object([
          "kind": "model", "path": .string(path), "pipeline": .string(pipeline), "family": .string(family),
          "parameters": .integer(parameters), "components": .array(list),
        ]))
      return
    }
    print("\(path): \(pipeline), family \(family), \(millions(parameters)) parameters")
    var table = TextTable("component", "class", "parameters", "dtype", "size on disk")
    for component in components {
      table.add(
        component.name, component.className, component.parameters == 0 ? "-" : millions(component.parameters),
        component.dtypes.isEmpty
          ? "-" : (component.quantization.map { "\($0): " } ?? "") + component.dtypes.joined(separator: ", "),
        mebibytes(component.bytes))
    }
    print(table.text)
  }

  private func millions(_ count: Int) -> String { fixed(Double(count) / 1e6, 2) + " M" }
}
