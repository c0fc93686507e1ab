import DiffusionLayers
import DiffusionModels

/// A single-file checkpoint of Stable Diffusion 1.x, as most personalised image models are shared, with a motion module
/// that the user names or that stands beside it as `motion_adapter/`.
///
/// What the shapes of its tensors do not tell is as in SD1.5, unless a diffusers folder of the same model stands around
/// it: then `unet/config.json`, `vae/config.json`, `text_encoder/config.json` and `tokenizer/` say it.
struct StableDiffusionLayout {
  /// The path as the user gave it.
  let path: String
  private let folder: ModelDirectory
  private let checkpoint: SafetensorsSource
  private let naming: UNetKeyNaming
  private let motionModule: String?
  private let checkFinite: Bool

  /// Nil for a path without such a checkpoint.
  /// - Parameter path: the file, or a folder that holds one.
  init?(_ path: String, motionModule: String?, checkFinite: Bool) throws {
    (self.path, self.motionModule, self.checkFinite) = (path, motionModule, checkFinite)
    func open(_ directory: ModelDirectory, _ name: String) throws -> SafetensorsSource {
      try SafetensorsSource(
        SafetensorsFile(source: try directory.source(name)), checkFinite: checkFinite, memoryBudget: .max)
    }
    if path.hasSuffix(".safetensors") {
      let slash = path.lastIndex(of: "/")
      folder = try ModelDirectory(slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? ".")
      checkpoint = try open(folder, String(path[(slash.map(path.index(after:)) ?? path.startIndex)...]))
      guard let naming = UNetKeyNaming.detect(checkpoint.names), naming.isOriginal else { return nil }
      self.naming = naming
      return
    }
    folder = try ModelDirectory(path)
    var found: [(name: String, source: SafetensorsSource, naming: UNetKeyNaming)] = []
    for name in folder.files(endingWith: ".safetensors") {
      // Files that cannot be opened belong to somebody else.
      guard let source = try? open(folder, name), let naming = UNetKeyNaming.detect(source.names),
        naming.isOriginal
      else { continue }
      found.append((name, source, naming))
    }
    guard let first = found.first else { return nil }
    guard found.count == 1 else {
      throw PipelineError.option(
        name: "model", value: path,
        reason:
          "holds several checkpoints (\(found.map(\.name).joined(separator: ", "))); name one of the files")
    }
    (checkpoint, naming) = (first.source, first.naming)
  }

  func parts() throws -> ModelParts {
    let (architecture, backbone) = try backbone()
    return ModelParts(
      name: path, architecture: architecture, configFile: checkpoint.name, backbone: backbone,
      codec: try codec(), text: try text(), scheduler: try scheduler(), hasCoordinatePlanes: false,
      hints: try ConfigReader(.object(JSONObject()), file: path))
  }

  // MARK: - the UNet

  /// The UNet without motion modules.
  var imageModel: ComponentFiles {
    ComponentFiles(checkpoint, as: (try? naming.renamed(checkpoint)) ?? checkpoint)
  }

  func backbone() throws -> (BackboneArchitecture, ComponentFiles) {
    let image = try naming.renamed(checkpoint)
    let motion = try motion()
    let config: UNetMotionConfig
    var file = checkpoint.name
    if let json = try json("unet/config.json") {
      file = folder.location(of: "unet/config.json")
      config = try motion.config(image: json, file: file)
    } else {
      config = try motion.config(UNetMotionConfig(inferredFrom: image))
    }
    let source = try JoinedSource([try motion.source(), image])
    try config.check(against: source, file: file)
    return (.unet(config), ComponentFiles(checkpoint, motion.weights, as: source))
  }

  private func motion() throws -> MotionModuleFiles {
    if let motionModule, !motionModule.isEmpty {
      return try MotionModuleFiles(motionModule, checkFinite: checkFinite)
    }
    guard folder.exists("motion_adapter") else { throw PipelineError.noMotionModule(model: path) }
    return try MotionModuleFiles(folder.location(of: "motion_adapter"), checkFinite: checkFinite)
  }

  /// A file of a diffusers folder around the checkpoint.
  private func json(_ name: String) throws -> JSONObject? {
    folder.exists(name) ? try folder.json(name) : nil
  }

  // MARK: - the other parts

  func codec() throws -> ModelParts.CodecParts {
    let file = "vae/config.json"
    let config = try json(file)
    let location = folder.location(of: file)
    if let prefix = AutoencoderKLNaming.originalPrefix(checkpoint), !prefix.isEmpty {
      return .kl(part(prefix), config: config, file: location)
    }
    guard let config else {
      throw PipelineError.missingComponent(
        model: path, component: "autoencoder (first_stage_model, or vae/ beside it)")
    }
    let source = try SafetensorsSource(folder, component: "vae", checkFinite: checkFinite, memoryBudget: .max)
    return .kl(ComponentFiles(source), config: config, file: location)
  }

  func text() throws -> ModelParts.TextParts {
    guard CLIPKeyNaming.prefix(checkpoint) != nil else {
      return .none(reason: "'\(checkpoint.name)' holds no CLIP text encoder")
    }
    let source = try CLIPKeyNaming.renamed(checkpoint)
    let file = "text_encoder/config.json"
    let config =
      if let json = try json(file) {
        try CLIPTextConfig(.object(json), file: folder.location(of: file))
      } else {
        try CLIPTextConfig(inferredFrom: source)
      }
    let tokenizer = folder.exists("tokenizer") ? try CLIPTokenizer(folder) : try CLIPTokenizer.clipL()
    return .clip(ComponentFiles(checkpoint, as: source), config, tokenizer)
  }

  func scheduler() throws -> ModelScheduler { try .animateDiff() }

  /// The tensors of the checkpoint whose names begin so, under the names they have.
  private func part(_ prefix: String) -> ComponentFiles {
    let names = checkpoint.names.filter { $0.hasPrefix(prefix) }
    return ComponentFiles(
      checkpoint,
      as: RenamedSource(
        checkpoint, stored: Dictionary(names.map { ($0, $0) }, uniquingKeysWith: { first, _ in first })))
  }
}
