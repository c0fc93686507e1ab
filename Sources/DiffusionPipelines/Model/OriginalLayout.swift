import DiffusionLayers
import DiffusionModels

/// Wan's own files, or single files made from them: a transformer in one file (or the shards of an index), the
/// autoencoder and the text encoder in others, recognised by their tensors and found beside it or in the folders
/// that ComfyUI keeps them in.
struct OriginalLayout {
  /// The path as the user gave it.
  let path: String
  private let folder: ModelDirectory
  /// The transformer's file in `folder` where the user named it.
  private let named: String?
  private let checkFinite: Bool

  /// - Parameter path: a `.safetensors` file, or a folder that holds one transformer.
  init(_ path: String, checkFinite: Bool) throws {
    self.path = path
    self.checkFinite = checkFinite
    if path.hasSuffix(".safetensors") {
      let slash = path.lastIndex(of: "/")
      named = String(path[(slash.map(path.index(after:)) ?? path.startIndex)...])
      folder = try ModelDirectory(slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? ".")
    } else {
      named = nil
      folder = try ModelDirectory(path)
    }
  }

  func parts() throws -> ModelParts {
    let (config, file, backbone) = try backbone()
    return ModelParts(
      name: path, architecture: .wan(config), configFile: file, backbone: backbone, codec: try codec(),
      text: try text(),
      scheduler: try Self.scheduler(), hasCoordinatePlanes: false,
      hints: try ConfigReader(.object(JSONObject()), file: path))
  }

  // MARK: - the transformer

  func backbone() throws -> (WanConfig, String, ComponentFiles) {
    let source = try transformer()
    guard let naming = WanKeyNaming.detect(source.names) else {
      throw PipelineError.unsupported(
        what: "a file without a Wan transformer ('\(source.name)')",
        remedy: "name the transformer's file, or a directory in diffusers' layout")
    }
    let renamed = try naming.renamed(source)
    let config = try WanConfig(inferredFrom: renamed, heads: try heads())
    return (config, source.name, ComponentFiles(source, as: renamed))
  }

  func architectureAndBackbone() throws -> (BackboneArchitecture, ComponentFiles) {
    let (config, _, files) = try backbone()
    return (.wan(config), files)
  }

  /// The number of heads that the `config.json` beside the file tells, in Wan's or diffusers' spelling.
  private func heads() throws -> Int? {
    guard folder.exists("config.json") else { return nil }
    let json = try folder.json("config.json")
    if let kind = json["model_type"]?.string, kind != "t2v" {
      throw ConfigError(
        file: folder.location(of: "config.json"), key: "model_type",
        reason: "is '\(kind)'; use a text-to-video checkpoint (t2v)")
    }
    return (json["num_heads"] ?? json["num_attention_heads"])?.int
  }

  private func transformer() throws -> SafetensorsSource {
    if let named { return try open(folder, named) }
    let candidates =
      folder.files(endingWith: ".safetensors.index.json").map { ($0, true) }
      + folder.files(endingWith: ".safetensors").map { ($0, false) }
    var found: [(name: String, source: SafetensorsSource)] = []
    for (name, isIndex) in candidates {
      let source =
        isIndex
        ? try SafetensorsSource(folder, index: name, checkFinite: checkFinite) : try open(folder, name)
      if WanKeyNaming.detect(source.names) != nil { found.append((name, source)) }
    }
    // The shards of an index are seen as files too; only the first holds what tells a transformer.
    if let index = found.first(where: { $0.name.hasSuffix(".index.json") }) { return index.source }
    guard let first = found.first else {
      throw PipelineError.missingComponent(model: path, component: "model_index.json and no Wan transformer")
    }
    if found.count > 1 {
      throw PipelineError.option(
        name: "model", value: path,
        reason:
          "holds several transformers (\(found.map(\.name).joined(separator: ", "))); name one of the files")
    }
    return first.source
  }

  private func open(_ directory: ModelDirectory, _ name: String) throws -> SafetensorsSource {
    try SafetensorsSource(
      SafetensorsFile(source: try directory.source(name)), checkFinite: checkFinite, memoryBudget: .max)
  }

  // MARK: - what stands beside it

  /// Folders in which the other files may stand, and what is in them.
  private func neighbours(_ comfyFolders: [String]) -> [ModelDirectory] {
    [folder]
      + comfyFolders.flatMap { name in
        ["", "../"].compactMap { try? ModelDirectory(folder.location(of: $0 + name)) }
      }
  }

  func codec() throws -> ModelParts.CodecParts {
    let folders = neighbours(["vae"])
    var pickle: String?
    for directory in folders {
      for name in directory.files(endingWith: ".safetensors") {
        // Files that cannot be opened belong to somebody else.
        guard let source = try? open(directory, name) else { continue }
        if AutoencoderKLWan.isOriginal(source.names) {
          return .wan(ComponentFiles(source), config: nil, file: source.name)
        }
      }
      if directory.exists("config.json"), directory.exists("diffusion_pytorch_model.safetensors"),
        let json = try? directory.json("config.json"), json["_class_name"]?.string == "AutoencoderKLWan"
      {
        let source = try open(directory, "diffusion_pytorch_model.safetensors")
        return .wan(ComponentFiles(source), config: json, file: directory.location(of: "config.json"))
      }
      pickle = pickle ?? directory.files(endingWith: "VAE.pth").first.map(directory.location)
    }
    if let pickle { throw WeightsError.foreign(file: pickle, format: .torchPickle) }
    throw PipelineError.missingComponent(
      model: path,
      component: "autoencoder (Wan2.1_VAE or wan_2.1_vae as .safetensors) beside it or in ../vae")
  }

  func text() throws -> ModelParts.TextParts {
    var pickle: String?
    for directory in neighbours(["text_encoders", "text_encoder", "clip"]) {
      // An index first: its shards look like files of their own.
      for name in directory.files(endingWith: ".safetensors.index.json") {
        let found = Result {
          try SafetensorsSource(directory, index: name, checkFinite: checkFinite, memoryBudget: .max)
        }
        if case .failure(let error as WeightsError) = found, error.isAbsence {
          return .none(reason: "\(error)")
        }
        let source = try found.get()
        if T5KeyNaming.detect(source) != nil { return try prompts(source, nil, directory) }
      }
      for name in directory.files(endingWith: ".safetensors") {
        guard let file = try? SafetensorsFile(source: directory.source(name)),
          let source = try? SafetensorsSource(file, checkFinite: checkFinite, memoryBudget: .max),
          T5KeyNaming.detect(source) != nil
        else { continue }
        return try prompts(source, file, directory)
      }
      pickle =
        pickle
        ?? directory.files(endingWith: ".pth").first { $0.hasPrefix("models_t5") }.map(directory.location)
    }
    if let pickle { return .none(reason: "\(WeightsError.foreign(file: pickle, format: .torchPickle))") }
    return .none(
      reason: "no UMT5 encoder (such as umt5_xxl_fp16.safetensors) stands beside it or in ../text_encoders")
  }

  private func prompts(_ source: SafetensorsSource, _ file: SafetensorsFile?, _ directory: ModelDirectory)
    throws -> ModelParts.TextParts
  {
    guard let tokenizer = try tokenizer(file, directory) else {
      return .none(
        reason: "'\(source.name)' has no tokenizer; put spiece.model of google/umt5-xxl beside it")
    }
    return .t5(
      T5Prompts(
        encoder: try T5Encoder(source: source), files: ComponentFiles(source), tokenizer: tokenizer,
        length: T5Prompts.wanLength))
  }

  /// The tokenizer inside the text encoder's file, or in the folders where Wan's repository and diffusers have it.
  private func tokenizer(_ file: SafetensorsFile?, _ directory: ModelDirectory) throws
    -> SentencePieceTokenizer?
  {
    let sentinels = 300
    if let file, let entry = file.entries[T5Encoder.embeddedTokenizer] {
      let count = entry.range.count
      guard count <= SentencePieceTokenizer.sizeLimit else {
        throw ConfigError(
          file: file.name, key: T5Encoder.embeddedTokenizer,
          reason: "has \(count >> 20) MiB; a tokenizer has at most \(SentencePieceTokenizer.sizeLimit >> 20)")
      }
      return try SentencePieceTokenizer(
        try file.bytes(T5Encoder.embeddedTokenizer), sentinels: sentinels, file: file.name)
    }
    for place in [directory] + neighbours(["tokenizer"]) {
      for name in ["google/umt5-xxl/spiece.model", "tokenizer/spiece.model", "spiece.model"]
      where place.exists(name) {
        return try SentencePieceTokenizer(
          try place.read(name), sentinels: sentinels, file: place.location(of: name))
      }
    }
    return nil
  }

  /// What diffusers' conversion of Wan 2.1 names: UniPC over a flow shifted by 3.
  static func scheduler() throws -> ModelScheduler {
    try ModelScheduler(
      className: "UniPCMultistepScheduler",
      [
        "prediction_type": .string("flow_prediction"), "use_flow_sigmas": .bool(true),
        "flow_shift": .number(3),
        "num_train_timesteps": .integer(1000), "solver_order": .integer(2),
      ], file: "Wan 2.1's scheduler")
  }
}
