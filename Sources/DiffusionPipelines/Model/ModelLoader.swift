import DiffusionLayers
import DiffusionModels
import TensorCore

/// Reads `model_index.json` and builds the components it names: a family is a combination, not a class.
struct ModelLoader {
  private let directory: ModelDirectory
  private let options: LoadOptions
  private let cancellation: Cancellation
  private let progress: (LoadProgress) -> Void
  private let index: JSONObject

  init(
    _ path: String, options: LoadOptions, cancellation: Cancellation,
    progress: @escaping (LoadProgress) -> Void
  ) throws {
    directory = try ModelDirectory(path)
    self.options = options
    self.cancellation = cancellation
    self.progress = progress
    guard directory.exists("model_index.json") else {
      throw PipelineError.missingComponent(model: path, component: "model_index.json")
    }
    index = try directory.json("model_index.json")
  }

  func load() throws -> VideoModel {
    guard options.precision == .auto || options.precision == .f32 else {
      throw PipelineError.unsupported(
        what: "precision=\(options.precision.rawValue)", remedy: "use f32 or auto")
    }
    let config = try backboneConfig()
    // Headers first: what the weights need is known before any of them is read.
    let backboneFiles = try SafetensorsSource(
      directory, component: "transformer", checkFinite: options.checkFinite)
    let vaeFiles = try tinyFiles()
    let textFiles = try tagFiles()
    let files: [SafetensorsSource] = [backboneFiles] + vaeFiles + (textFiles.map { [$0] } ?? [])
    let weightBytes = files.reduce(0) { $0 + $1.residentBytes }
    let parameters = files.reduce(0) { $0 + $1.parameters }
    if options.memoryBudget > 0 && weightBytes > options.memoryBudget {
      throw PipelineError.overBudget(
        needed: weightBytes, budget: options.memoryBudget, what: "the model '\(directory.path)'")
    }

    let backbone = try resident(backboneFiles, "transformer", from: 0, to: 0.7)
    let transformer = try WanTransformer(Weights(backbone), config)
    let codec = try codec(vaeFiles)
    let tags = try tagTable(textFiles)
    let hasPlanes = index["coordinate_planes"]?.string == "xyt"
    guard config.inChannels == codec.channels + (hasPlanes ? 3 : 0), config.outChannels == codec.channels
    else {
      throw ConfigError(
        file: directory.location(of: "transformer/config.json"), key: "in_channels",
        reason:
          "is \(config.inChannels) with out_channels \(config.outChannels), which does not fit an autoencoder "
          + "of \(codec.channels) channels\(hasPlanes ? " and three coordinate planes" : "")")
    }
    if let tags, tags.hiddenSize != config.textDim {
      throw ConfigError(
        file: directory.location(of: "text_encoder/config.json"), key: "hidden_size",
        reason: "is \(tags.hiddenSize), and the transformer's text_dim is \(config.textDim)")
    }
    progress(LoadProgress(component: "model", fraction: 1))
    let text = TextConditioner(model: directory.path, tags: tags, textDim: config.textDim)
    return VideoModel(
      info: try info(
        config, codec, isTagModel: tags != nil, parameters: parameters, weightBytes: Int(weightBytes)),
      adapters: [],
      transformer: transformer, codec: codec, text: text, scheduler: try scheduler(),
      coordinatePlanes: hasPlanes,
      memoryBudget: options.memoryBudget, backbone: backbone)
  }

  /// The backbone alone, for replays of denoiser calls: nothing else of the model is looked at.
  func loadBackbone() throws -> (WanConfig, ResidentSource) {
    let config = try backboneConfig()
    let files = try SafetensorsSource(directory, component: "transformer", checkFinite: options.checkFinite)
    return (config, try resident(files, "transformer", from: 0, to: 1))
  }

  /// The class that a component is made of, nil where the index says `[null, null]` or nothing.
  private func componentClass(_ name: String) -> String? {
    index[name]?.array?.last?.string
  }

  private func backboneConfig() throws -> WanConfig {
    guard let name = componentClass("transformer") else {
      let what = componentClass("unet").map { "the backbone \($0)" } ?? "a model without a transformer"
      throw PipelineError.unsupported(what: what, remedy: "use a model with a WanTransformer3DModel")
    }
    guard name == "WanTransformer3DModel" else {
      throw PipelineError.unsupported(
        what: "the backbone \(name)", remedy: "use a model with a WanTransformer3DModel")
    }
    let file = "transformer/config.json"
    return try WanConfig(.object(try directory.json(file)), file: directory.location(of: file))
  }

  private func resident(
    _ source: SafetensorsSource, _ component: String, from start: Double, to end: Double
  ) throws -> ResidentSource {
    try ResidentSource(
      loading: source,
      progress: { done, total in
        try cancellation.check()
        let share = total == 0 ? 1 : Double(done) / Double(total)
        progress(LoadProgress(component: component, fraction: start + (end - start) * share))
      })
  }

  private func tinyFiles() throws -> [SafetensorsSource] {
    guard let name = componentClass("vae") else { return [] }
    guard name == "AutoencoderTiny" else {
      throw PipelineError.unsupported(
        what: "the autoencoder \(name)", remedy: "use a model with an AutoencoderTiny in TAEF2's layout")
    }
    return try ["encoder", "decoder"].map { part in
      try SafetensorsSource(
        SafetensorsFile(source: try directory.source("vae/taef2_\(part).safetensors")),
        checkFinite: options.checkFinite)
    }
  }

  private func codec(_ files: [SafetensorsSource]) throws -> LatentCodec {
    guard files.count == 2 else { return .pixels }
    let config = try directory.json("vae/config.json")
    let parts = try files.enumerated().map { index, file in
      Weights(
        try resident(file, "vae", from: 0.7 + 0.12 * Double(index), to: 0.82 + 0.12 * Double(index)))
    }
    return .tiny(
      try AutoencoderTiny(
        encoder: parts[0], decoder: parts[1], config: .object(config),
        file: directory.location(of: "vae/config.json")))
  }

  private func tagFiles() throws -> SafetensorsSource? {
    guard componentClass("text_encoder") == "TagTable" else { return nil }
    return try SafetensorsSource(directory, component: "text_encoder", checkFinite: options.checkFinite)
  }

  private func tagTable(_ files: SafetensorsSource?) throws -> TagTable? {
    guard let files else { return nil }
    return try TagTable(
      Weights(try resident(files, "text_encoder", from: 0.95, to: 1)),
      config: .object(try directory.json("text_encoder/config.json")),
      vocabulary: .object(try directory.json("text_encoder/vocab.json")),
      file: directory.location(of: "text_encoder/config.json"))
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

  /// Defaults from the index's `videolora` entry, else those usual for the kind of model.
  private func info(
    _ config: WanConfig, _ codec: LatentCodec, isTagModel: Bool, parameters: Int, weightBytes: Int
  )
    throws -> ModelInfo
  {
    let hints = try ConfigReader(
      index["videolora"] ?? .object(JSONObject()), file: directory.location(of: "model_index.json"))
    let isPixel = codec.channels == 3
    // A multiple of both patch sides.
    let multiple =
      codec.ratio * config.patchSize[1] * config.patchSize[2] / gcd(config.patchSize[1], config.patchSize[2])
    let clipLength = try hints.integer("clip_length", in: 1...1024, default: isTagModel ? 8 : 81)
    return ModelInfo(
      name: directory.path, family: "wan", parameters: parameters, weightBytes: weightBytes,
      defaultSteps: try hints.integer("steps", in: 1...1000, default: isTagModel ? 20 : 50),
      defaultGuidance: Float(try hints.number("guidance_scale", default: isTagModel ? 3 : 5)),
      clipLength: clipLength,
      overlap: try hints.integer("overlap", in: 0...max(0, clipLength - 1), default: min(2, clipLength - 1)),
      sizeMultiple: multiple,
      trainedWidth: try hints.integer("width", in: 16...8192, default: isPixel ? 24 : isTagModel ? 96 : 832),
      trainedHeight: try hints.integer(
        "height", in: 16...8192, default: isPixel ? 24 : isTagModel ? 96 : 480),
      framesMultiple: config.patchSize[0])
  }
}

/// The greatest common divisor of two positive numbers.
private func gcd(_ a: Int, _ b: Int) -> Int { b == 0 ? a : gcd(b, a % b) }
