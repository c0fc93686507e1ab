import DiffusionLayers
import DiffusionModels
import TensorCore

/// Finds the components of a model, checks what they need against the memory, and loads them.
struct ModelLoader {
  private let path: String
  private let options: LoadOptions
  private let cancellation: Cancellation
  private let progress: (LoadProgress) -> Void

  init(
    _ path: String, options: LoadOptions = LoadOptions(), cancellation: Cancellation = Cancellation(),
    progress: @escaping (LoadProgress) -> Void = { _ in }
  ) {
    self.path = path
    self.options = options
    self.cancellation = cancellation
    self.progress = progress
  }

  /// How the files of the model are laid out.
  private enum Layout {
    case diffusers(DiffusersLayout)
    case original(OriginalLayout)
    case stableDiffusion(StableDiffusionLayout)
  }

  private func layout() throws -> Layout {
    if !path.hasSuffix(".safetensors") {
      let directory = try ModelDirectory(path)
      if directory.exists("model_index.json") {
        return .diffusers(
          try DiffusersLayout(
            directory, checkFinite: options.checkFinite, motionModule: options.motionModule))
      }
    }
    if let checkpoint = try StableDiffusionLayout(
      path, motionModule: options.motionModule, checkFinite: options.checkFinite)
    {
      return .stableDiffusion(checkpoint)
    }
    if let motionModule = options.motionModule, !motionModule.isEmpty {
      throw PipelineError.option(
        name: "motion-module", value: motionModule,
        reason: "is for Stable Diffusion 1.5, and '\(path)' is no such checkpoint")
    }
    return .original(try OriginalLayout(path, checkFinite: options.checkFinite))
  }

  /// The components, opened and not read.
  func parts() throws -> ModelParts {
    switch try layout() {
    case .diffusers(let layout): try layout.parts()
    case .original(let layout): try layout.parts()
    case .stableDiffusion(let layout): try layout.parts()
    }
  }

  func load() throws -> VideoModel {
    // Headers first: what the weights need is known before any of them is read.
    let parts = try parts()
    let precision = options.precision.resolved(for: parts.backbone.source)
    let bytes = parts.residentBytes(precision)
    try checkMemory(bytes)
    let backbone = try backbone(parts.backbone, parts.architecture, precision, to: 0.7)
    let denoiser = try parts.architecture.build(Weights(backbone))
    let codec = try codec(parts.codec)
    try checkChannels(parts, denoiser, codec)
    let text = TextConditioner(
      model: path, encoder: try textEncoder(parts, denoiser.textDim), textDim: denoiser.textDim)
    progress(LoadProgress(component: "model", fraction: 1))
    return VideoModel(
      info: try info(parts, denoiser, codec, precision, bytes), adapters: [], denoiser: denoiser,
      controls: [],
      codec: codec,
      text: text,
      scheduler: parts.scheduler, coordinatePlanes: parts.hasCoordinatePlanes,
      memoryBudget: options.memoryBudget, backbone: backbone)
  }

  private func checkMemory(_ needed: UInt64) throws(PipelineError) {
    let what = "the model '\(path)'"
    if options.memoryBudget > 0 && needed > options.memoryBudget {
      throw .overBudget(needed: needed, budget: options.memoryBudget, what: what)
    }
    let physical = TensorMemory.physicalBytes
    if needed > physical { throw .overMemory(needed: needed, available: physical, what: what) }
  }

  private func checkChannels(_ parts: ModelParts, _ config: any VideoBackbone, _ codec: LatentCodec) throws {
    let planes = parts.hasCoordinatePlanes
    guard config.inChannels == codec.channels + (planes ? 3 : 0), config.outChannels == codec.channels else {
      throw ConfigError(
        file: parts.configFile, key: "in_channels",
        reason:
          "is \(config.inChannels) with out_channels \(config.outChannels), which does not fit an autoencoder "
          + "of \(codec.channels) channels\(planes ? " and three coordinate planes" : "")")
    }
  }

  // MARK: - components

  /// The backbone alone, for replays of denoiser calls: nothing else of the model is looked at.
  func loadBackbone() throws -> (BackboneArchitecture, ResidentSource) {
    let (architecture, files) = try backboneFiles()
    let precision = options.precision.resolved(for: files.source)
    return (architecture, try backbone(files, architecture, precision, to: 1))
  }

  /// The backbone's files, opened and not read.
  func backboneFiles() throws -> (BackboneArchitecture, ComponentFiles) {
    switch try layout() {
    case .diffusers(let layout): try layout.backbone()
    case .original(let layout): try layout.architectureAndBackbone()
    case .stableDiffusion(let layout): try layout.backbone()
    }
  }

  /// The autoencoder alone.
  func loadCodec() throws -> LatentCodec {
    switch try layout() {
    case .diffusers(let layout): try codec(layout.codec())
    case .original(let layout): try codec(layout.codec())
    case .stableDiffusion(let layout): try codec(layout.codec())
    }
  }

  /// What encodes prompts, opened and not read.
  func textParts() throws -> ModelParts.TextParts {
    switch try layout() {
    case .diffusers(let layout): try layout.text()
    case .original(let layout): try layout.text()
    case .stableDiffusion(let layout): try layout.text()
    }
  }

  /// The scheduler that the model names.
  func scheduler() throws -> ModelScheduler {
    switch try layout() {
    case .diffusers(let layout): try layout.scheduler()
    case .original: try OriginalLayout.scheduler()
    case .stableDiffusion(let layout): try layout.scheduler()
    }
  }

  private func backbone(
    _ files: ComponentFiles, _ architecture: BackboneArchitecture, _ precision: Precision, to end: Double
  ) throws -> ResidentSource {
    try resident(files, architecture.component, from: 0, to: end) {
      precision.format(of: $0, $1, stored: $2, in: architecture)
    }
  }

  private func resident(
    _ files: ComponentFiles, _ component: String, from start: Double, to end: Double,
    format: (String, [Int], DType) -> DType = { $2 }
  ) throws -> ResidentSource {
    try ResidentSource(
      loading: files.source,
      progress: { done, total in
        try cancellation.check()
        let share = total == 0 ? 1 : Double(done) / Double(total)
        progress(LoadProgress(component: component, fraction: start + (end - start) * share))
      }, format: format)
  }

  private func codec(_ parts: ModelParts.CodecParts) throws -> LatentCodec {
    switch parts {
    case .pixels(let patch): return .pixels(patch: patch)
    case .tiny(let encoder, let decoder, let config, let file):
      return .tiny(
        try AutoencoderTiny(
          encoder: Weights(try resident(encoder, "vae", from: 0.7, to: 0.82)),
          decoder: Weights(try resident(decoder, "vae", from: 0.82, to: 0.94)), config: .object(config),
          file: file))
    case .wan(let files, let config, let file):
      // Read where its layers are made: the packed kernels are the only copy that stays.
      progress(LoadProgress(component: "vae", fraction: 0.7))
      try cancellation.check()
      guard let config else { return .wan(try AutoencoderKLWan(original: files.source)) }
      return .wan(try AutoencoderKLWan(Weights(files.source), config: .object(config), file: file))
    case .kl(let files, let config, let file):
      progress(LoadProgress(component: "vae", fraction: 0.7))
      try cancellation.check()
      return .kl(try AutoencoderKL(files.source, config: config.map { .object($0) }, file: file))
    }
  }

  /// - Parameter textDim: width of the embeddings that the denoiser takes.
  private func textEncoder(_ parts: ModelParts, _ textDim: Int) throws -> TextConditioner.Encoder {
    func check(_ width: Int, _ file: String, _ key: String) throws {
      guard width == textDim else {
        throw ConfigError(
          file: file, key: key, reason: "is \(width), and the denoiser takes embeddings \(textDim) wide")
      }
    }
    switch parts.text {
    case .none(let reason): return .none(reason: reason)
    case .tags(let files, let config, let vocabulary, let file):
      let tags = try TagTable(
        Weights(try resident(files, "text_encoder", from: 0.95, to: 1)), config: .object(config),
        vocabulary: .object(vocabulary), file: file)
      try check(tags.hiddenSize, file, "hidden_size")
      return .tags(tags)
    case .t5(let prompts):
      try check(prompts.encoder.config.dModel, "\(path): text encoder", "d_model")
      return .t5(prompts)
    case .clip:
      guard let prompts = try clip(parts.text) else { return .none(reason: "it has no text encoder") }
      try check(prompts.encoder.config.hiddenSize, "\(path): text encoder", "hidden_size")
      return .clip(prompts)
    }
  }

  /// CLIP's encoder of these parts, read into memory; nil for another kind of encoder.
  func clip(_ parts: ModelParts.TextParts) throws -> CLIPPrompts? {
    guard case .clip(let files, let config, let tokenizer) = parts else { return nil }
    return try CLIPPrompts(try resident(files, "text_encoder", from: 0.95, to: 1), config, tokenizer)
  }

  // MARK: - facts

  /// Defaults from the index's `videolora` entry, else those usual for the kind of model.
  private func info(
    _ parts: ModelParts, _ denoiser: any VideoBackbone, _ codec: LatentCodec, _ precision: Precision,
    _ bytes: UInt64
  ) throws -> ModelInfo {
    let (patchSize, hints) = (denoiser.patchSize, parts.hints)
    let defaults = ModelDefaults(parts, codec)
    // A multiple of both patch sides.
    let multiple = codec.ratio * patchSize[1] * patchSize[2] / gcd(patchSize[1], patchSize[2])
    let usual = defaults.clipLength
    var clipLength = try hints.integer("clip_length", in: 1...1024, default: usual)
    func isPossible(_ frames: Int) -> Bool {
      ModelInfo.isClipLength(frames, temporalRatio: codec.temporalRatio, temporalPatch: patchSize[0])
    }
    if hints.isNull("clip_length") {
      // The usual one, or the next shorter that the model can have; at least one patch of latent frames.
      clipLength =
        (1...usual).last(where: isPossible) ?? codec.temporalRatio * (patchSize[0] - 1) + 1
    }
    guard isPossible(clipLength) else {
      throw hints.invalid(
        "clip_length",
        "is \(clipLength), and clips of this model have 1 + a multiple of \(codec.temporalRatio) frames in patches "
          + "of \(patchSize[0]) latent frames")
    }
    return ModelInfo(
      name: path, family: parts.architecture.family,
      parameters: parts.resident.reduce(0) { $0 + $1.parameters },
      weightBytes: Int(bytes), precision: precision,
      defaultSteps: try hints.integer("steps", in: 1...1000, default: defaults.steps),
      defaultGuidance: Float(try hints.number("guidance_scale", default: defaults.guidanceScale)),
      clipLength: clipLength,
      overlap: try hints.integer(
        "overlap", in: 0...max(0, clipLength - 1), default: min(defaults.overlap, clipLength - 1)),
      sizeMultiple: multiple,
      trainedWidth: try hints.integer("width", in: 16...8192, default: defaults.width),
      trainedHeight: try hints.integer("height", in: 16...8192, default: defaults.height),
      temporalRatio: codec.temporalRatio, temporalPatch: patchSize[0],
      sharesNoise: try hints.bool("shared_noise", default: defaults.sharesNoise))
  }
}

/// The greatest common divisor of two positive numbers.
private func gcd(_ a: Int, _ b: Int) -> Int { b == 0 ? a : gcd(b, a % b) }
