import DiffusionLayers
import DiffusionModels

/// A directory in diffusers' layout, or a builtin model: `model_index.json` names the components, each in a
/// folder of its own. A family is a combination, not a class.
struct DiffusersLayout {
  let directory: ModelDirectory
  private let index: JSONObject
  private let checkFinite: Bool

  init(_ directory: ModelDirectory, checkFinite: Bool) throws {
    self.directory = directory
    self.checkFinite = checkFinite
    index = try directory.json("model_index.json")
  }

  func parts() throws -> ModelParts {
    let (config, backbone) = try backbone()
    return ModelParts(
      name: directory.path, config: config, configFile: directory.location(of: "transformer/config.json"),
      backbone: backbone, codec: try codec(), text: try text(), scheduler: try scheduler(),
      hasCoordinatePlanes: index["coordinate_planes"]?.string == "xyt",
      hints: try ConfigReader(
        index["videolora"] ?? .object(JSONObject()), file: directory.location(of: "model_index.json")))
  }

  /// The class that a component is made of, nil where the index says `[null, null]` or nothing.
  private func componentClass(_ name: String) -> String? { index[name]?.array?.last?.string }

  private func files(_ component: String) throws -> SafetensorsSource {
    try SafetensorsSource(directory, component: component, checkFinite: checkFinite)
  }

  func backbone() throws -> (WanConfig, ComponentFiles) {
    guard let name = componentClass("transformer"), name == "WanTransformer3DModel" else {
      let what = componentClass("transformer") ?? componentClass("unet")
      throw PipelineError.unsupported(
        what: what.map { "the backbone \($0)" } ?? "a model without a transformer",
        remedy: "use a model with a WanTransformer3DModel")
    }
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
    return (config, ComponentFiles(weights))
  }

  /// The UNet and the motion modules, nil where the index names no UNet.
  func unet() throws -> (UNetMotionConfig, ComponentFiles)? {
    guard let name = componentClass("unet") else { return nil }
    let (json, file) = ("unet/config.json", directory.location(of: "unet/config.json"))
    let config = JSONValue.object(try directory.json(json))
    let image = try files("unet")
    if name == "UNetMotionModel" {
      let parsed = try UNetMotionConfig(merged: config, file: file)
      try parsed.check(against: image, file: file)
      return (parsed, ComponentFiles(image))
    }
    guard componentClass("motion_adapter") != nil else {
      throw PipelineError.missingComponent(model: directory.path, component: "motion_adapter")
    }
    let (adapter, adapterFile) = (
      "motion_adapter/config.json", directory.location(of: "motion_adapter/config.json")
    )
    let parsed = try UNetMotionConfig(
      unet: config, file: file, motion: .object(try directory.json(adapter)), motionFile: adapterFile)
    let motion = try files("motion_adapter")
    guard let naming = MotionModuleNaming.detect(motion.names) else {
      throw PipelineError.missingComponent(
        model: directory.path, component: "motion modules ('\(motion.name)' holds none)")
    }
    let joined = try JoinedSource([image, try naming.renamed(motion)])
    try parsed.check(against: joined, file: adapterFile)
    return (parsed, ComponentFiles([image, motion], as: joined))
  }

  func codec() throws -> ModelParts.CodecParts {
    let (json, file) = ("vae/config.json", directory.location(of: "vae/config.json"))
    switch componentClass("vae") {
    case nil: return .pixels
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
    case .some(let name):
      throw PipelineError.unsupported(
        what: "the autoencoder \(name)", remedy: "use a model with an AutoencoderKLWan or an AutoencoderTiny")
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

  /// The scheduler that the model names; flow matching where it has none.
  func scheduler() throws -> ModelScheduler {
    let file = "scheduler/scheduler_config.json"
    guard directory.exists(file) else { return ModelScheduler.flowMatching }
    let json = try directory.json(file)
    return try ModelScheduler(
      className: json["_class_name"]?.string ?? componentClass("scheduler"), json,
      file: directory.location(of: file))
  }
}
