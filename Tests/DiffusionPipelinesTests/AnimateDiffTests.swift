import DiffusionLayers
import DiffusionModels
import DiffusionPipelines
import TensorCore
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// AnimateDiff whole: loading in every layout, text to video, video to video, long clips.
@Suite struct AnimateDiffTests {
  private func picture(_ model: VideoModel, _ prompt: String = "a red fox", frames: Int = 4, steps: Int = 2)
    throws
    -> [Frame]
  {
    var stages = StageSeconds()
    return try TextToVideo.run(
      model, settings: SamplerSettings(prompt: prompt, steps: steps, seed: 3), frames: frames, width: 40,
      height: 32, stages: &stages)
  }

  /// Some of the fixture's files.
  private func files(_ folders: [String]) throws -> [String: [UInt8]] {
    let directory = try ModelDirectory(Fixture.path("animatediff"))
    var files: [String: [UInt8]] = [:]
    for (folder, names) in [
      ("unet", ["config.json", "diffusion_pytorch_model.safetensors"]),
      ("motion_adapter", ["config.json", "diffusion_pytorch_model.safetensors"]),
      ("vae", ["config.json", "diffusion_pytorch_model.safetensors"]),
      ("text_encoder", ["config.json", "model.safetensors"]),
      ("tokenizer", ["vocab.json", "merges.txt", "tokenizer_config.json"]),
      ("scheduler", ["scheduler_config.json"]),
    ] where folders.contains(folder) {
      for name in names { files["\(folder)/\(name)"] = try directory.read("\(folder)/\(name)") }
    }
    return files
  }

  private func image(_ model: TemporaryModel) {
    model.write(
      Array(
        """
        {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"], "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"], "scheduler": ["diffusers", "PNDMScheduler"]}
        """.utf8), to: "model_index.json")
    model.write(
      Array(#"{"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear"}"#.utf8),
      to: "scheduler/scheduler_config.json")
  }

  // MARK: - Parity

  @Test func casesAgreeWithinTheirFloors() throws {
    let output = "/tmp/videolora-animatediff-\(getpid()).safetensors"
    defer { unlink(output) }
    let outcome = try Replay.run(
      model: Fixture.path("animatediff"), golden: Fixture.path("animatediff_golden.safetensors"), loras: nil,
      output: output)
    #expect(outcome.skipped.isEmpty, "\(outcome.skipped)")
    #expect(outcome.done.count == 10)
    let golden = try Fixture.safetensors("animatediff_golden")
    let replay = try SafetensorsFile(path: output)
    for name in golden.names where name.contains(".out.") {
      let difference = Difference(try replay[name], try golden[name])
      #expect(difference.relative <= 100 * 3e-6, "\(name): \(difference)")
    }
    for index in 0..<4 {
      let ids = try golden.integers("text.\(index).in.ids").map(Float.init)
      #expect(try replay["text.\(index).out.ids"].array() == ids)
    }
  }

  // MARK: - Layouts

  @Test func diffusersFolder() throws {
    let model = try VideoModel.load(Fixture.path("animatediff"), options: LoadOptions(precision: .f32))
    #expect(model.info.family == "animatediff" && model.info.clipLength == 16 && model.info.overlap == 4)
    #expect(model.info.defaultSteps == 25 && model.info.defaultGuidance == 7.5)
    #expect(model.info.trainedWidth == 512 && model.info.sizeMultiple == 8 && !model.info.sharesNoise)
    let frames = try picture(model)
    #expect(frames.count == 4 && frames[0].width == 40 && frames[0].height == 32)
    #expect(frames != (try picture(model, "slow pan")))
    // Sizes that are no multiples of the model's are padded inside.
    var stages = StageSeconds()
    let odd = try TextToVideo.run(
      model, settings: SamplerSettings(steps: 1), frames: 1, width: 35, height: 19, stages: &stages)
    #expect(odd[0].width == 35 && odd[0].height == 19)
  }

  @Test func imageModelWithAMotionModuleOfItsOwn() throws {
    let expected = try picture(
      VideoModel.load(Fixture.path("animatediff"), options: LoadOptions(precision: .f32)))
    let folder = TemporaryModel(try files(["unet", "vae", "text_encoder", "tokenizer"]))
    image(folder)
    let error = #expect(throws: PipelineError.self) { try VideoModel.load(folder.path) }
    #expect(error == .noMotionModule(model: folder.path))
    #expect(error?.description.contains("motion-module") == true)
    for path in ["motion_adapter", "motion_adapter/diffusion_pytorch_model.safetensors"] {
      let model = try VideoModel.load(
        folder.path,
        options: LoadOptions(precision: .f32, motionModule: Fixture.path("animatediff/" + path)))
      // The same scheduler, although the folder names the image model's.
      #expect(try picture(model) == expected, "\(path)")
    }
    let wrong = #expect(throws: PipelineError.self) {
      try VideoModel.load(
        folder.path, options: LoadOptions(motionModule: Fixture.path("animatediff/vae")))
    }
    #expect(wrong?.description.contains("motion-module=") == true)
    #expect(throws: WeightsError.self) {
      try VideoModel.load(folder.path, options: LoadOptions(motionModule: "/nonexistent.safetensors"))
    }
  }

  @Test func motionModulesAreForImageModels() throws {
    for model in [Fixture.path("wan_tiny"), "builtin:nano"] {
      let error = #expect(throws: PipelineError.self) {
        try VideoModel.load(
          model, options: LoadOptions(motionModule: Fixture.path("animatediff/motion_adapter")))
      }
      #expect(error?.description.contains("motion-module=") == true)
    }
  }

  @Test func missingPartsAreNamed() throws {
    let folder = try TemporaryModel(copying: "animatediff")
    folder.remove("tokenizer/merges.txt")
    #expect(throws: ConfigError.self) { try VideoModel.load(folder.path) }
    // Without a text encoder it runs with precomputed embeddings.
    folder.remove("text_encoder/model.safetensors")
    let model = try VideoModel.load(folder.path)
    let error = #expect(throws: PipelineError.self) { try picture(model) }
    #expect(error?.description.contains("prompt-embeds") == true)
    folder.remove("motion_adapter/diffusion_pytorch_model.safetensors")
    #expect(throws: WeightsError.self) { try VideoModel.load(folder.path) }
  }

  @Test func widthsThatDisagreeAreNamed() throws {
    let folder = try TemporaryModel(copying: "animatediff")
    try folder.edit("vae/config.json") { $0["latent_channels"] = .integer(3) }
    #expect(throws: (any Error).self) { try VideoModel.load(folder.path) }
    let other = try TemporaryModel(copying: "animatediff")
    try other.edit("text_encoder/config.json") { $0["vocab_size"] = .integer(100) }
    #expect(throws: (any Error).self) { try VideoModel.load(other.path) }
  }

  // MARK: - Runs

  @Test func videoToVideoGivesEveryFrame() throws {
    let model = try VideoModel.load(Fixture.path("animatediff"), options: LoadOptions(precision: .f32))
    let source = (0..<7).map { index in
      Frame(
        width: 40, height: 32, pixels: (0..<40 * 32 * 3).map { UInt8(truncatingIfNeeded: $0 + 9 * index) })
    }
    func transformed(_ strength: Float, seed: UInt64) throws -> [Frame] {
      var stream = try VideoStream(model: model, clipLength: 4, overlap: 1)
      let settings = SamplerSettings(prompt: "a red fox", steps: 3, seed: seed)
      var frames: [Frame] = []
      for frame in source {
        frames += try stream.push(frame, strength: strength, adapterStrengths: [], settings: settings)
      }
      return frames + (try stream.drain(settings: settings))
    }
    #expect(try transformed(0, seed: 1) == source)
    let result = try transformed(0.6, seed: 1)
    #expect(result.count == 7 && result != source)
    #expect(try transformed(0.6, seed: 1) == result)
    #expect(try transformed(0.6, seed: 2) != result)
  }

  @Test func longClipsRunInWindows() throws {
    let model = try VideoModel.load(Fixture.path("animatediff"), options: LoadOptions(precision: .f32))
    let frames = try picture(model, frames: 40, steps: 2)
    #expect(frames.count == 40)
    // The memory for activations is that of the longest clip in one piece.
    let (short, long) = (
      model.predictedBytes(frames: 32, width: 512, height: 512),
      model.predictedBytes(frames: 100, width: 512, height: 512)
    )
    #expect(long - short < 8 * 4 * 68 * 512 * 512 * 3)
  }

  @Test func stepsAreLeftOut() throws {
    let model = try VideoModel.load(Fixture.path("animatediff"), options: LoadOptions(precision: .f32))
    func run(_ threshold: Float, frames: Int) throws -> (frames: [Frame], stages: StageSeconds) {
      var stages = StageSeconds()
      let result = try TextToVideo.run(
        model, settings: SamplerSettings(prompt: "snow", steps: 8, cacheThreshold: threshold),
        frames: frames, width: 40, height: 32, stages: &stages)
      return (result, stages)
    }
    let (exact, cached) = (try run(0, frames: 4), try run(1, frames: 4))
    #expect(exact.stages.cachedSteps == 0 && cached.stages.cachedSteps > 0)
    #expect(cached.frames != exact.frames)
  }

  @Test(arguments: SchedulerKind.allCases.filter { $0 != .flowMatchEuler })
  func everyNoiseSamplerRuns(_ kind: SchedulerKind) throws {
    let model = try VideoModel.load(Fixture.path("animatediff"), options: LoadOptions(precision: .f32))
    var stages = StageSeconds()
    let frames = try TextToVideo.run(
      model, settings: SamplerSettings(prompt: "snow", steps: 3, scheduler: kind), frames: 2, width: 32,
      height: 32,
      stages: &stages)
    #expect(frames.count == 2)
  }

  // MARK: - Adapters of the text encoder

  @Test func textEncoderAdaptersActAtTheirStrength() throws {
    let layer = "text_model.encoder.layers.1.mlp.fc1"
    var random = TorchRandom(seed: 5)
    let folder = TemporaryModel()
    let path = folder.path + "/text.safetensors"
    var writer = SafetensorsWriter(metadata: [])
    writer.add("text_encoder.\(layer).lora_A.weight", random.randn([2, 16]))
    writer.add("text_encoder.\(layer).lora_B.weight", random.randn([32, 2]))
    try writer.write(to: path)
    defer { unlink(path) }
    let base = try VideoModel.load(Fixture.path("animatediff"), options: LoadOptions(precision: .f32))
    let model = try base.adapted(with: [AdapterRequest(path: path)])
    #expect(model.adapters[0].matchedKeys == 2)
    func frames(_ model: VideoModel, _ strengths: [[Float]]) throws -> [Frame] {
      var stages = StageSeconds()
      return try TextToVideo.run(
        model, settings: SamplerSettings(prompt: "a red fox", steps: 2), frames: 2, width: 40, height: 32,
        adapterStrengths: strengths, stages: &stages)
    }
    let plain = try frames(base, [])
    #expect(try frames(model, [[0]]) == plain)
    let whole = try frames(model, [[1]])
    #expect(whole != plain)
    // Text has no frames: its strength is the clip's mean.
    #expect(try frames(model, [[0.5, 1.5]]) == whole)
    #expect(try frames(model.adapted(with: []), []) == plain)
  }
}
