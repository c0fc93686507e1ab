import DiffusionLayers
import DiffusionModels

/// The files of an AnimateDiff motion module, opened and not read: a `motion_adapter` folder of diffusers, or a file
/// with diffusers' or the official repository's names.
struct MotionModuleFiles {
  let weights: SafetensorsSource
  private let naming: MotionModuleNaming
  /// The configuration that stands beside the weights, where one does.
  private let config: JSONObject?
  private let configFile: String

  /// - Parameter path: a folder or a `.safetensors` file.
  /// - Throws: `PipelineError.option` for a file without motion modules, `WeightsError` naming a file that cannot be read.
  init(_ path: String, checkFinite: Bool) throws {
    let directory: ModelDirectory
    if path.hasSuffix(".safetensors") {
      let slash = path.lastIndex(of: "/")
      directory = try ModelDirectory(slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? ".")
      let name = String(path[(slash.map(path.index(after:)) ?? path.startIndex)...])
      weights = try SafetensorsSource(
        SafetensorsFile(source: try directory.source(name)), checkFinite: checkFinite, memoryBudget: .max)
    } else {
      directory = try ModelDirectory(path)
      weights = try SafetensorsSource(directory, component: "", checkFinite: checkFinite, memoryBudget: .max)
    }
    guard let naming = MotionModuleNaming.detect(weights.names) else {
      throw PipelineError.option(
        name: "motion-module", value: path,
        reason: "holds no motion modules of AnimateDiff; name such a file, or a motion_adapter folder")
    }
    self.naming = naming
    configFile = directory.location(of: "config.json")
    // Other models' configurations may stand beside a file of the official repository.
    let beside = directory.exists("config.json") ? try directory.json("config.json") : nil
    config = beside?["_class_name"]?.string == "MotionAdapter" && !naming.isOriginal ? beside : nil
  }

  /// The weights under diffusers' names.
  func source() throws -> any WeightSource { try naming.renamed(weights) }

  /// The shape of an image model with these modules.
  /// - Parameter image: the image model's own configuration.
  func config(image: JSONObject, file: String) throws -> UNetMotionConfig {
    guard let config else {
      return try UNetMotionConfig(image: .object(image), file: file).with(motion: weights, naming)
    }
    return try UNetMotionConfig(
      unet: .object(image), file: file, motion: .object(config), motionFile: configFile)
  }

  /// The same for a model whose shape is known from its tensors.
  func config(_ image: UNetMotionConfig) throws -> UNetMotionConfig {
    try image.with(motion: weights, naming)
  }
}
