import DiffusionLayers
import DiffusionModels

/// A directory in diffusers' layout, or a builtin model: `model_index.json` names the components, each in a
/// folder of its own. A family is a combination, not a class.
struct DiffusersLayout {
  let directory: ModelDirectory
  private let index: JSONObject
  let checkFinite: Bool
  /// The motion module that the user names, for models without one of their own.
  let motionModule: String?

  init(_ directory: ModelDirectory, checkFinite: Bool, motionModule: String? = nil) throws {
    self.directory = directory
    self.checkFinite = checkFinite
    self.motionModule = motionModule
    index = try directory.json("model_index.json")
  }

  func parts() throws -> ModelParts {
    let (architecture, backbone) = try backbone()
    return ModelParts(
      name: directory.path, architecture: architecture,
      configFile: directory.location(of: "\(architecture.component)/config.json"), backbone: backbone,
      codec: try codec(), text: try text(), scheduler: try scheduler(),
      hasCoordinatePlanes: index["coordinate_planes"]?.string == "xyt",
      hints: try ConfigReader(
        index["videolora"] ?? .object(JSONObject()), file: directory.location(of: "model_index.json")))
  }

  /// The class that a component is made of, nil where the index says `[null, null]` or nothing.
  func componentClass(_ name: String) -> String? { index[name]?.array?.last?.string }

  func files(_ component: String) throws -> SafetensorsSource {
    try SafetensorsSource(directory, component: component, checkFinite: checkFinite)
  }

  func backbone() throws -> (BackboneArchitecture, ComponentFiles) {
    if componentClass("unet") != nil { return try unet() }
    guard let name = componentClass("transformer"), name == "WanTransformer3DModel" else {
      throw PipelineError.unsupported(
        what: componentClass("transformer").map { "the backbone \($0)" }
          ?? "a model without a transformer or UNet",
        remedy: "use a model with a WanTransformer3DModel, or with the UNet of Stable Diffusion 1.5")
    }
    try refuseMotionModule()
    for (component, reason) in [
      ("transformer_2", "marks a Wan 2.2 checkpoint with two experts"),
      ("image_encoder", "marks an image-to-video checkpoint, which needs a start image"),
    ] where componentClass(component) != nil {
      throw ConfigError(
        file: directory.location(of: "model_index.json"), key: component,
        reason: "\(reason); use a Wan 2.1 text-to-video one")
    }
    let file = "transformer/config.json"
    let config = try WanConfig(.object(try directory.json(file)), file: directory.location(of: file))
    let weights = try files("transformer")
    // Fewer layers than the weights have would run, and give something else.
    if weights.contains("blocks.\(config.numLayers).attn1.to_q.weight") {
      throw ConfigError(
        file: directory.location(of: file), key: "num_layers",
        reason: "is \(config.numLayers), and the weights hold more; take the config.json that came with them")
    }
    return (.wan(config), ComponentFiles(weights))
  }

  func refuseMotionModule() throws(PipelineError) {
    guard let motionModule, !motionModule.isEmpty else { return }
    throw .option(
      name: "motion-module", value: motionModule,
      reason: "is for image models; '\(directory.path)' has its own motion")
  }

  func codec() throws -> ModelParts.CodecParts {
    let (json, file) = ("vae/config.json", directory.location(of: "vae/config.json"))
    switch componentClass("vae") {
    case nil:
      let reader = try ConfigReader(
        .object(index), file: directory.location(of: "model_index.json"))
      return .pixels(patch: try reader.integer("pixel_patch", in: 1...64, default: 1))
    case "AutoencoderTiny":
      let parts = try ["encoder", "decoder"].map { part in
        ComponentFiles(
          try SafetensorsSource(
            SafetensorsFile(source: try directory.source("vae/taef2_\(part).safetensors")),
            checkFinite: checkFinite))
      }
      return .tiny(encoder: parts[0], decoder: parts[1], config: try directory.json(json), file: file)
    case "AutoencoderKLWan":
      return .wan(ComponentFiles(try files("vae")), config: try directory.json(json), file: file)
    case "AutoencoderKL":
      return .kl(ComponentFiles(try files("vae")), config: try directory.json(json), file: file)
    case .some(let name):
      throw PipelineError.unsupported(
        what: "the autoencoder \(name)",
        remedy: "use a model with an AutoencoderKL, AutoencoderKLWan or AutoencoderTiny")
    }
  }

  func text() throws -> ModelParts.TextParts {
    let (json, file) = ("text_encoder/config.json", directory.location(of: "text_encoder/config.json"))
    switch componentClass("text_encoder") {
    case "TagTable":
      return .tags(
        ComponentFiles(try files("text_encoder")), config: try directory.json(json),
        vocabulary: try directory.json("text_encoder/vocab.json"), file: file)
    case "UMT5EncoderModel", "T5EncoderModel":
      return try t5(json, file)
    case "CLIPTextModel": return try clip(json, file)
    case let name?: return .none(reason: "its text encoder \(name) is not supported")
    case nil: return .none(reason: "model_index.json names no text encoder")
    }
  }

  /// A copy without its text encoder, which is the largest part, or without the tokenizer still runs with
  /// prompt-embeds.
  private func t5(_ json: String, _ file: String) throws -> ModelParts.TextParts {
    guard directory.exists(json) else { return .none(reason: "'\(file)' does not exist") }
    let config = try T5Config(.object(try directory.json(json)), file: file)
    let found = Result {
      try SafetensorsSource(
        directory, component: "text_encoder", checkFinite: checkFinite, memoryBudget: .max)
    }
    if case .failure(let error as WeightsError) = found, error.isAbsence { return .none(reason: "\(error)") }
    let source = try found.get()
    let read = Result { try SentencePieceTokenizer(directory) }
    if case .failure(let error) = read, !directory.exists("tokenizer/spiece.model") {
      return .none(reason: "\(error)")
    }
    let tokenizer = try read.get()
    return .t5(
      T5Prompts(
        encoder: try T5Encoder(source: source, config: config), files: ComponentFiles(source),
        tokenizer: tokenizer, length: T5Prompts.wanLength))
  }

  /// A copy without its text encoder or tokenizer still runs with prompt-embeds.
  private func clip(_ json: String, _ file: String) throws -> ModelParts.TextParts {
    guard directory.exists(json) else { return .none(reason: "'\(file)' does not exist") }
    let config = try CLIPTextConfig(.object(try directory.json(json)), file: file)
    let found = Result { try files("text_encoder") }
    if case .failure(let error as WeightsError) = found, error.isAbsence { return .none(reason: "\(error)") }
    let source = try found.get()
    guard directory.exists("tokenizer") else {
      return .none(reason: "'\(directory.location(of: "tokenizer"))' does not exist")
    }
    return .clip(
      ComponentFiles(source, as: try CLIPKeyNaming.renamed(source)), config, try CLIPTokenizer(directory))
  }

  /// The scheduler that the model names; flow matching where it has none.
  ///
  /// An image model is given AnimateDiff's own: motion modules are trained with another noise schedule than the
  /// images were.
  func scheduler() throws -> ModelScheduler {
    let file = "scheduler/scheduler_config.json"
    if isImageModel {
      let prediction = directory.exists(file) ? try directory.json(file)["prediction_type"]?.string : nil
      return try .animateDiff(prediction: prediction)
    }
    guard directory.exists(file) else { return ModelScheduler.flowMatching }
    let json = try directory.json(file)
    return try ModelScheduler(
      className: json["_class_name"]?.string ?? componentClass("scheduler"), json,
      file: directory.location(of: file))
  }
}
