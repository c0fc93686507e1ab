import DiffusionLayers
import DiffusionPipelines
import Glibc
import TensorCore
import TestSupport
import Testing

/// Whole Wan models of random weights: transformer, autoencoder, text encoder and tokenizer, in the layouts in
/// which users have them.
@Suite(.serialized) struct WanModelTests {
  private static let settings = SamplerSettings(
    prompt: "A red cat walks near the golden river", negativePrompt: "slow", steps: 2, guidanceScale: 4,
    seed: 3)

  private static func frames(_ path: String, budget: UInt64 = 0, size: Int = 32) throws -> [Frame] {
    let model = try VideoModel.load(path, options: LoadOptions(memoryBudget: budget))
    var stages = StageSeconds()
    return try TextToVideo.run(
      model, settings: settings, frames: 5, width: size, height: size, stages: &stages)
  }

  // MARK: layouts

  @Test func everyLayoutGivesTheSameFrames() throws {
    let folders = try ModelFolders()
    defer { folders.remove() }
    let expected = try Self.frames(folders.diffusers)
    #expect(expected.count == 5)
    #expect(Set(expected.map(\.pixels)).count == 5)
    #expect(try Self.frames(folders.original) == expected)
    #expect(try Self.frames(folders.original + "/wan_transformer.safetensors") == expected)
    // In ComfyUI's folders.
    #expect(try Self.frames(folders.comfy + "/diffusion_models/wan_t2v.safetensors") == expected)
  }

  /// A transformer's file inside a folder of diffusers finds the other components, whose weights may be shards.
  @Test func aTransformerOfDiffusersFindsTheRest() throws {
    let folders = try ModelFolders()
    defer { folders.remove() }
    let (text, transformer) = (folders.diffusers + "/text_encoder", folders.diffusers + "/transformer")
    // Folders of their own: what stands beside a linked one is found nowhere.
    for (folder, name) in [(text, "text_encoder"), (transformer, "transformer")] {
      unlink(folder)
      mkdir(folder, 0o755)
      symlink(Fixture.path("wan_tiny/\(name)/config.json"), folder + "/config.json")
    }
    defer {
      for folder in [text, transformer] {
        for name in (try? ModelDirectory(folder))?.files(endingWith: "") ?? [] { unlink("\(folder)/\(name)") }
        rmdir(folder)
      }
    }
    let weights = "diffusion_pytorch_model.safetensors"
    symlink(Fixture.path("wan_tiny/transformer/\(weights)"), "\(transformer)/\(weights)")
    let whole = try SafetensorsFile(path: Fixture.path("wan_tiny/text_encoder/model.safetensors"))
    var map: [String] = []
    for (index, names) in [whole.names.prefix(5), whole.names.dropFirst(5)].enumerated() {
      var writer = SafetensorsWriter()
      for name in names {
        guard let entry = whole.entries[name] else { continue }
        writer.add(name, bytes: try whole.bytes(name), dtype: entry.dtype, shape: entry.shape)
        map.append("\"\(name)\": \"model-\(index).safetensors\"")
      }
      try writer.write(to: "\(text)/model-\(index).safetensors")
    }
    try ModelFolders.write(
      text + "/model.safetensors.index.json", "{\"weight_map\": {\(map.joined(separator: ", "))}}")
    let expected = try Self.frames(folders.diffusers)
    #expect(try Self.frames("\(transformer)/\(weights)") == expected)
    #expect(try Self.frames(transformer) == expected)
  }

  @Test func aPromptAndItsEmbeddingsGiveTheSameFrames() throws {
    let folders = try ModelFolders()
    defer { folders.remove() }
    let other = try VideoModel.load(folders.diffusers)
    var stages = StageSeconds()
    var settings = Self.settings
    settings.prompt = "two robots dance"
    let changed = try TextToVideo.run(
      other, settings: settings, frames: 5, width: 32, height: 32, stages: &stages)
    #expect(try changed != Self.frames(folders.diffusers))
    #expect(stages.text > 0)
  }

  @Test func streamsKeepEveryFrame() throws {
    let folders = try ModelFolders()
    defer { folders.remove() }
    let model = try VideoModel.load(folders.diffusers)
    var stream = try VideoStream(model: model, clipLength: 9, overlap: 5)
    let source = VideoStreamTests.frames(23, width: 40, height: 24)
    var results: [Frame] = []
    for (index, frame) in source.enumerated() {
      results += try stream.push(
        frame, strength: index < 3 ? 0 : 0.5, adapterStrengths: [], settings: Self.settings)
    }
    results += try stream.drain(settings: Self.settings)
    #expect(results.count == source.count)
    #expect(Array(results.prefix(3)) == Array(source.prefix(3)))
    #expect(zip(results, source).dropFirst(3).allSatisfy { $0 != $1 })
    #expect(results.allSatisfy { $0.width == 40 && $0.height == 24 })
  }

  // MARK: what is refused

  @Test func clipLengthsFollowTheAutoencoder() throws {
    let folders = try ModelFolders()
    defer { folders.remove() }
    let model = try VideoModel.load(folders.diffusers)
    let error = #expect(throws: PipelineError.self) { try VideoStream(model: model, clipLength: 8) }
    #expect("\(error.map { "\($0)" } ?? "")".contains("4n + 1"))
    #expect(model.info.latentFrames(17) == 5)
    // The index's own hint is held to the same rule.
    let index = folders.diffusers + "/model_index.json"
    var json = try ModelDirectory(folders.diffusers).json("model_index.json")
    for (hint, isPossible) in [(13, true), (12, false)] {
      json["videolora"] = .object(["clip_length": .integer(hint)])
      try ModelFolders.write(index, JSONValue.object(json).serialized())
      let result = Result { try VideoModel.load(folders.diffusers).info.clipLength }
      switch result {
      case .success(let length): #expect(isPossible && length == hint)
      case .failure(let error): #expect(!isPossible && "\(error)".contains("'clip_length' is 12"), "\(error)")
      }
    }
    #expect(model.info.isClipLength(model.info.clipLength))
  }

  @Test func budgetsAreCheckedFirst() throws {
    let folders = try ModelFolders()
    defer { folders.remove() }
    #expect(throws: PipelineError.self) { try Self.frames(folders.diffusers, budget: 10_000) }
    let model = try VideoModel.load(folders.diffusers)
    let weights = UInt64(model.info.weightBytes)
    let whole = model.predictedBytes(frames: 5, width: 256, height: 256)
    #expect(throws: PipelineError.self) {
      try Self.frames(folders.diffusers, budget: weights + (whole - weights) / 20, size: 256)
    }
    // Between the two the autoencoder works in tiles.
    let tiled = try VideoModel.load(
      folders.diffusers, options: LoadOptions(memoryBudget: weights + (whole - weights) / 2))
    #expect(tiled.predictedBytes(frames: 5, width: 256, height: 256) < whole)
    #expect(tiled.memoryForecast(frames: 5, width: 256, height: 256).contains("tiles"))
    // The largest number a user can set.
    let free = try VideoModel.load(folders.diffusers, options: LoadOptions(memoryBudget: .max))
    let forecast = free.memoryForecast(frames: 5, width: 256, height: 256)
    #expect(forecast.contains("memory-budget 17592186044416 MiB"))
    let error = PipelineError.overBudget(needed: (1 << 20) - 1, budget: (1 << 20) - 2, what: "it")
    #expect("\(error)".contains("needs 1 MiB and memory-budget allows 0 MiB"))
  }

  @Test func embeddingsDoWithoutATextEncoder() throws {
    let folders = try ModelFolders()
    defer { folders.remove() }
    let embeddings = folders.root + "/comfy/embeddings.safetensors"
    var writer = SafetensorsWriter()
    let width = try #require(
      try ModelDirectory(folders.diffusers).json("transformer/config.json")["text_dim"]?.int)
    writer.add("prompt_embeds", Tensor.zeros([1, 8, width]))
    try writer.write(to: embeddings)
    // Without the negative ones guidance has nothing to guide away from.
    let both = folders.root + "/comfy/both.safetensors"
    writer.add("negative_prompt_embeds", Tensor.zeros([1, 8, width]))
    try writer.write(to: both)
    defer { unlink(both) }
    var (given, half) = (Self.settings, Self.settings)
    given.promptEmbeds = both
    half.promptEmbeds = embeddings
    func expect(_ reason: String, _ path: String) throws {
      let model = try VideoModel.load(path)
      var stages = StageSeconds()
      let error = #expect(throws: PipelineError.self) {
        try TextToVideo.run(
          model, settings: Self.settings, frames: 1, width: 16, height: 16, stages: &stages)
      }
      let message = error.map { "\($0)" } ?? ""
      #expect(message.contains(reason) && message.contains("prompt-embeds"), "\(message)")
      let frames = try TextToVideo.run(
        model, settings: given, frames: 1, width: 16, height: 16, stages: &stages)
      #expect(frames.count == 1)
      let lacking = #expect(throws: PipelineError.self) {
        try TextToVideo.run(model, settings: half, frames: 1, width: 16, height: 16, stages: &stages)
      }
      #expect("\(lacking.map { "\($0)" } ?? "")".contains("no tensor 'negative_prompt_embeds'"))
      half.guidanceScale = 1
      defer { half.guidanceScale = 4 }
      #expect(
        try TextToVideo.run(model, settings: half, frames: 1, width: 16, height: 16, stages: &stages).count
          == 1)
    }
    let text = folders.diffusers + "/text_encoder"
    unlink(text)
    try expect("text_encoder/config.json' does not exist", folders.diffusers)
    // What is left when only the large files were not downloaded.
    mkdir(text, 0o755)
    symlink(Fixture.path("wan_tiny/text_encoder/config.json"), text + "/config.json")
    try expect("text_encoder/model.safetensors' does not exist", folders.diffusers)
    try ModelFolders.write(
      text + "/model.safetensors.index.json", #"{"weight_map": {"shared.weight": "a.safetensors"}}"#)
    try expect("the shard 'a.safetensors'", folders.diffusers)
    unlink(text + "/model.safetensors.index.json")
    symlink(Fixture.path("wan_tiny/text_encoder/model.safetensors"), text + "/model.safetensors")
    unlink(folders.diffusers + "/tokenizer")
    try expect("'spiece.model' is missing", folders.diffusers)
    for name in ["config.json", "model.safetensors"] { unlink("\(text)/\(name)") }
    rmdir(text)

    let piece = folders.original + "/google/umt5-xxl/spiece.model"
    unlink(piece)
    try expect("umt5.safetensors' has no tokenizer", folders.original)
    unlink(folders.original + "/umt5.safetensors")
    try expect("no UMT5 encoder", folders.original)
    symlink(Fixture.path("README.md"), folders.original + "/models_t5_umt5-xxl-enc-bf16.pth")
    try expect("models_t5_umt5-xxl-enc-bf16.pth", folders.original)
  }

  /// The encoder is read while it runs: once its file is gone, only what is remembered can be had.
  @Test func aPromptIsEncodedOnce() throws {
    let folders = try ModelFolders()
    defer { folders.remove() }
    let file = folders.original + "/umt5.safetensors"
    let model = try VideoModel.load(folders.original)
    let adapter = AdapterRequest(path: Fixture.path("wan_tiny_loras/wan_tiny.peft.safetensors"))
    var stages = StageSeconds()
    func frames(_ model: VideoModel, _ settings: SamplerSettings, clip: Int = 0) throws -> [Frame] {
      try TextToVideo.run(
        model, settings: settings, frames: 1, width: 16, height: 16, clipIndex: clip, stages: &stages)
    }
    let first = try frames(model, Self.settings)
    truncate(file, 100)
    #expect(try frames(model, Self.settings) == first)
    var other = Self.settings
    (other.seed, other.steps) = (9, 3)
    #expect(try frames(try model.adapted(with: [adapter]), other, clip: 1).count == 1)
    // Without guidance the negative prompt is not needed.
    (other.negativePrompt, other.guidanceScale) = ("something new", 1)
    #expect(try frames(model, other).count == 1)
    other.guidanceScale = 4
    #expect(throws: (any Error).self) { try frames(model, other) }
    other.guidanceScale = 1
    other.prompt = "something new"
    #expect(throws: (any Error).self) { try frames(model, other) }
  }

  @Test func guidanceWithoutNegativeEmbeddingsEncodesTheNegativePrompt() throws {
    let folders = try ModelFolders()
    defer { folders.remove() }
    let model = try VideoModel.load(folders.diffusers)
    let width = try #require(
      try ModelDirectory(folders.diffusers).json("transformer/config.json")["text_dim"]?.int)
    var stages = StageSeconds()
    func frames(_ tensors: [(String, Tensor)], negative: String, scale: Float = 4) throws -> [Frame] {
      let path = folders.root + "/embeddings.safetensors"
      defer { unlink(path) }
      var writer = SafetensorsWriter()
      for (name, tensor) in tensors { writer.add(name, tensor) }
      try writer.write(to: path)
      return try TextToVideo.run(
        model,
        settings: SamplerSettings(
          negativePrompt: negative, promptEmbeds: path, steps: 2, guidanceScale: scale, seed: 1), frames: 1,
        width: 16, height: 16, stages: &stages)
    }
    var random = TorchRandom(seed: 4)
    let positive = ("prompt_embeds", random.randn([1, 512, width]))
    let zeros = ("negative_prompt_embeds", Tensor.zeros([1, 512, width]))
    let (slow, dark) = (
      try frames([positive], negative: "slow"), try frames([positive], negative: "dark and grey")
    )
    #expect(slow != dark)
    #expect(try frames([positive, zeros], negative: "slow") != slow)
    #expect(try frames([positive], negative: "slow", scale: 1) == frames([positive], negative: "x", scale: 1))
    let short = ("prompt_embeds", random.randn([1, 8, width]))
    let error = #expect(throws: PipelineError.self) { try frames([short], negative: "slow") }
    #expect("\(error.map { "\($0)" } ?? "")".contains("no tensor 'negative_prompt_embeds'"))
  }

  @Test func otherCheckpointsAreNamed() throws {
    let folders = try ModelFolders()
    defer { folders.remove() }
    func message(_ path: String) -> String {
      do {
        _ = try VideoModel.load(path)
        return ""
      } catch { return "\(error)" }
    }
    // A configuration of fewer layers than the weights have.
    let (folder, config) = (folders.diffusers + "/transformer", Fixture.path("wan_tiny/transformer"))
    var json = try ModelDirectory(config).json("config.json")
    json["num_layers"] = .integer(1)
    unlink(folder)
    mkdir(folder, 0o755)
    let weights = "diffusion_pytorch_model.safetensors"
    symlink("\(config)/\(weights)", "\(folder)/\(weights)")
    try ModelFolders.write(folder + "/config.json", JSONValue.object(json).serialized())
    #expect(message(folders.diffusers).contains("'num_layers' is 1, and the weights hold more"))
    for name in [weights, "config.json"] { unlink("\(folder)/\(name)") }
    rmdir(folder)
    // Two transformers in one folder.
    symlink(
      folders.original + "/wan_transformer.safetensors", folders.original + "/another.safetensors")
    #expect(message(folders.original).contains("another.safetensors, wan_transformer.safetensors"))
    // An image-to-video file.
    try ModelFolders.write(
      folders.original + "/i2v.safetensors",
      from: SafetensorsFile(path: folders.original + "/wan_transformer.safetensors"), rename: { $0 },
      adding: "img_emb.proj.1.weight")
    #expect(message(folders.original + "/i2v.safetensors").contains("image-to-video"))
    // No autoencoder, then only a pickled one.
    unlink(folders.original + "/wan_vae.safetensors")
    let path = folders.original + "/wan_transformer.safetensors"
    #expect(message(path).contains("autoencoder"))
    #expect(symlink(Fixture.path("README.md"), folders.original + "/Wan2.1_VAE.pth") == 0)
    #expect(message(path).contains("Wan2.1_VAE.pth"))
  }
}

/// One model in several layouts, in a temporary folder.
private struct ModelFolders {
  let root: String
  var diffusers: String { root + "/diffusers" }
  var original: String { root + "/original" }
  var comfy: String { root + "/comfy" }

  init() throws {
    var template = Array("/tmp/videolora-wan-XXXXXX".utf8CString)
    let made = try #require(mkdtemp(&template).map { String(cString: $0) })
    root = made
    for folder in [
      diffusers, diffusers + "/scheduler", original, original + "/google", original + "/google/umt5-xxl",
      comfy,
      comfy + "/diffusion_models", comfy + "/vae", comfy + "/text_encoders",
    ] { mkdir(folder, 0o755) }

    for part in ["transformer", "text_encoder", "tokenizer"] {
      symlink(Fixture.path("wan_tiny/\(part)"), "\(diffusers)/\(part)")
    }
    symlink(Fixture.path("autoencoder_kl_wan/vae"), diffusers + "/vae")
    try Self.write(
      diffusers + "/model_index.json",
      """
      {"transformer": ["diffusers", "WanTransformer3DModel"], "vae": ["diffusers", "AutoencoderKLWan"],
       "text_encoder": ["transformers", "UMT5EncoderModel"], "tokenizer": ["transformers", "T5TokenizerFast"],
       "scheduler": ["diffusers", "UniPCMultistepScheduler"]}
      """)
    try Self.write(
      diffusers + "/scheduler/scheduler_config.json",
      """
      {"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction", "use_flow_sigmas": true,
       "flow_shift": 3.0, "num_train_timesteps": 1000, "solver_order": 2}
      """)

    let transformer = try SafetensorsFile(
      path: Fixture.path("wan_tiny/transformer/diffusion_pytorch_model.safetensors"))
    try Self.write(original + "/wan_transformer.safetensors", from: transformer, rename: Self.original)
    try Self.write(
      original + "/config.json", #"{"_class_name": "WanModel", "model_type": "t2v", "num_heads": 2}"#)
    let names = try JSONValue.parse(
      ByteSource.open(Fixture.path("autoencoder_kl_wan_names.json")).bytes(
        0..<ByteSource.open(Fixture.path("autoencoder_kl_wan_names.json")).count), file: "names")
    let vae = try SafetensorsFile(
      path: Fixture.path("autoencoder_kl_wan/vae/diffusion_pytorch_model.safetensors"))
    try Self.write(original + "/wan_vae.safetensors", from: vae) { names.object?[$0]?.string ?? $0 }
    let text = try SafetensorsFile(path: Fixture.path("wan_tiny/text_encoder/model.safetensors"))
    try Self.write(original + "/umt5.safetensors", from: text, rename: { $0 })
    let tokenizer = Fixture.path("wan_tiny/tokenizer/spiece.model")
    symlink(tokenizer, original + "/google/umt5-xxl/spiece.model")

    // ComfyUI: a prefix before every name, the parts in folders of their own, the tokenizer in the encoder's file.
    try Self.write(comfy + "/diffusion_models/wan_t2v.safetensors", from: transformer) {
      "model.diffusion_model." + Self.original($0)
    }
    symlink(original + "/config.json", comfy + "/diffusion_models/config.json")
    symlink(original + "/wan_vae.safetensors", comfy + "/vae/wan_2.1_vae.safetensors")
    let piece = try ByteSource.open(tokenizer)
    try Self.write(
      comfy + "/text_encoders/umt5_xxl.safetensors", from: text, rename: { $0 },
      adding: "spiece_model", bytes: try piece.bytes(0..<piece.count))
  }

  func remove() {
    for folder in [
      diffusers + "/scheduler", diffusers, original + "/google/umt5-xxl", original + "/google", original,
      comfy + "/diffusion_models", comfy + "/vae", comfy + "/text_encoders", comfy, root,
    ] {
      for name in (try? ModelDirectory(folder))?.files(endingWith: "") ?? [] { unlink("\(folder)/\(name)") }
      rmdir(folder)
    }
  }

  /// Wan's own name of a tensor of diffusers' transformer.
  private static func original(_ name: String) -> String {
    if name == "scale_shift_table" { return "head.modulation" }
    var name = name
    for (diffusers, original) in [
      ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
      ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
      ("condition_embedder.time_proj", "time_projection.1"),
      ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
      ("condition_embedder.text_embedder.linear_2", "text_embedding.2"), ("proj_out", "head.head"),
      ("attn1", "self_attn"), ("attn2", "cross_attn"), ("to_out.0", "o"), ("to_q", "q"), ("to_k", "k"),
      ("to_v", "v"), ("ffn.net.0.proj", "ffn.0"), ("ffn.net.2", "ffn.2"), ("norm2", "norm3"),
      ("scale_shift_table", "modulation"),
    ] {
      if let range = name.firstRange(of: diffusers) { name.replaceSubrange(range, with: original) }
    }
    return name
  }

  static func write(_ path: String, _ text: String) throws {
    let file = try #require(fopen(path, "w"))
    fputs(text, file)
    fclose(file)
  }

  static func write(
    _ path: String, from source: SafetensorsFile, rename: (String) -> String, adding extra: String? = nil,
    bytes: [UInt8] = [0, 0, 0, 0]
  ) throws {
    var writer = SafetensorsWriter()
    for name in source.names {
      guard let entry = source.entries[name] else { continue }
      writer.add(rename(name), bytes: try source.bytes(name), dtype: entry.dtype, shape: entry.shape)
    }
    if let extra {
      let isText = bytes.count != 4
      writer.add(extra, bytes: bytes, dtype: isText ? .uint8 : .float32, shape: [isText ? bytes.count : 1])
    }
    try writer.write(to: path)
  }
}
