import DiffusionLayers
import DiffusionModels
import DiffusionPipelines
import DiffusionTraining
import Glibc
import TensorCore
import TestSupport
import Testing

/// Gradients and loss curves against torch and peft (Tests/Fixtures/generate/training.py).
@Suite struct TorchParityTests {
  /// A model and what torch and peft made of it.
  struct Golden: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let file: String
    let model: @Sendable () throws -> VideoModel
    var clips = Stripes(count: 2)
  }

  /// The fixtures, and models that are too large to be one: the base of the judge kit, in the folder that `JUDGE` names,
  /// and what the script was run on by hand.
  static let goldens: [Golden] = {
    let latents = Stripes(count: 2, frames: 5, height: 32, width: 32)
    var all = [
      Golden(testDescription: "tag_model", file: Fixture.path("training_golden.safetensors")) {
        try VideoModel.load(Fixture.path("tag_model"))
      },
      Golden(
        testDescription: "wan_tiny", file: Fixture.path("training_wan_golden.safetensors"), model: wan,
        clips: latents),
    ]
    if let kit = environment("JUDGE") {
      all.append(
        Golden(testDescription: "judge", file: Fixture.path("training_judge_golden.safetensors")) {
          try VideoModel.load(kit + "/base")
        })
    }
    if let path = environment("VIDEOLORA_TRAINING_MODEL"),
      let file = environment("VIDEOLORA_TRAINING_GOLDEN")
    {
      let isPixelSpace = (try? VideoModel.load(path).isPixelSpace) ?? false
      all.append(
        Golden(
          testDescription: path, file: file, model: { try VideoModel.load(path) },
          clips: isPixelSpace ? Stripes(count: 2) : latents))
    }
    return all
  }()

  private static func environment(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

  /// The small Wan transformer with the small Wan autoencoder.
  private static func wan() throws -> VideoModel {
    var template = Array("/tmp/videolora-wan-XXXXXX".utf8CString)
    let folder = try #require(mkdtemp(&template).map { String(cString: $0) })
    defer { _ = "rm -rf \(folder)".withCString { system($0) } }
    for part in ["transformer", "text_encoder", "tokenizer", "scheduler"] {
      symlink(Fixture.path("wan_tiny/\(part)"), "\(folder)/\(part)")
    }
    symlink(Fixture.path("autoencoder_kl_wan/vae"), folder + "/vae")
    let index = """
      {"transformer": ["diffusers", "WanTransformer3DModel"], "vae": ["diffusers", "AutoencoderKLWan"],
       "text_encoder": ["transformers", "UMT5EncoderModel"], "tokenizer": ["transformers", "T5TokenizerFast"],
       "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"]}
      """
    try AtomicFile.write(Array(index.utf8), to: folder + "/model_index.json")
    return try VideoModel.load(folder)
  }

  /// The golden's spelling of `MODULE.lora_A`.
  private static func key(_ name: String) -> String {
    "\(name.hasSuffix("_A") ? "A" : "B").\(name.dropLast(".lora_A".count))"
  }

  private func recipe() -> TrainingRecipe {
    var recipe = TrainingRecipe()
    (recipe.rank, recipe.alpha, recipe.steps, recipe.batch) = (4, 8, 10, 2)
    (recipe.learningRate, recipe.warmup, recipe.decay) = (1e-2, 0, .constant)
    return recipe
  }

  /// Sample `index` of the golden's step.
  private func item(_ file: SafetensorsFile, step: Int, _ index: Int) throws -> BatchItem {
    let clip = try file["clips"].narrow(0, from: index, length: 1).contiguous()
    let noise = try file["noise"].select(0, step).narrow(0, from: index, length: 1).contiguous()
    let sigma = try file["sigmas"].array()[step * 2 + index]
    let objective = NoisingTarget(.flow(shift: 1, timesteps: 1000))
    return BatchItem(
      noisy: objective(clip, noise: noise, time: Double(sigma)),
      context: try file["text"].narrow(0, from: index, length: 1).contiguous())
  }

  private func trainer(
    _ golden: Golden, _ recipe: TrainingRecipe, _ file: SafetensorsFile, _ prefix: String
  ) throws -> Trainer {
    var trainer = try Trainer(try golden.model(), golden.clips, recipe, method: PlainMethod())
    var state = trainer.state
    var values: [Tensor] = []
    for (name, value) in zip(state.names, state.values) {
      // B starts at zero where the golden has none.
      let key = "\(prefix).\(Self.key(name))"
      values.append(file.entries[key] == nil ? Tensor.zeros(value.shape) : try file[key])
    }
    state.values = values
    trainer.resume(state)
    return trainer
  }

  @Test(arguments: goldens) func gradientsOfEveryLinearLayer(_ golden: Golden) throws {
    let file = try SafetensorsFile(path: golden.file)
    var recipe = recipe()
    (recipe.rank, recipe.alpha) = (2, 2)
    recipe.targets = [
      "to_q", "to_k", "to_v", "to_out.0", "net.0.proj", "net.2", "linear_1", "linear_2", "time_proj",
      "proj_out",
    ]
    for checkpointing in [false, true] {
      recipe.checkpointing = checkpointing
      let trainer = try trainer(golden, recipe, file, "all")
      let layers = file.names.count { $0.hasPrefix("all.A.") }
      #expect(trainer.state.factors.count == layers)
      let (loss, gradients) = try trainer.gradients(2) { try item(file, step: 0, $0) }
      #expect(abs(loss / (try file["all.loss"].array()[0]) - 1) < 1e-5)
      for (name, gradient) in zip(trainer.state.names, gradients) {
        let difference = Difference(gradient, try file["all.gradient.\(Self.key(name))"])
        #expect(difference.relative < 1e-4, "\(name): \(difference)")
      }
    }
  }

  @Test(arguments: goldens) func tenStepsOfAdamW(_ golden: Golden) throws {
    let file = try SafetensorsFile(path: golden.file)
    var trainer = try trainer(golden, recipe(), file, "attention")
    let (losses, norms) = (try file["attention.losses"].array(), try file["attention.norms"].array())
    for step in 0..<10 {
      let report = try trainer.step(2) { try item(file, step: step, $0) }
      #expect(abs(report.loss / losses[step] - 1) < 1e-3, "step \(step): \(report.loss), \(losses[step])")
      #expect(
        abs(Float(report.norm) / norms[step] - 1) < 1e-3, "step \(step): \(report.norm), \(norms[step])")
    }
    for (name, value) in zip(trainer.state.names, trainer.state.values) {
      let difference = Difference(value, try file["attention.trained.\(Self.key(name))"])
      #expect(difference.relative < 1e-2, "\(name): \(difference)")
    }
  }
}

/// Clips of moving stripes with a caption each, made from their number.
struct Stripes: TrainingData {
  let count: Int
  var frames = 2
  var height = 8
  var width = 16
  var isFixed: Bool { true }

  func sample(_ index: Int, draw: UInt64) throws -> TrainingSample {
    let pictures = (0..<frames).map { frame in
      Frame(
        width: width, height: height,
        pixels: (0..<width * height * 3).map {
          UInt8(truncatingIfNeeded: ($0 / 3 % width + frame * (index + 1)) * 24 + $0 % 3 * 40 + index * 16)
        })
    }
    return TrainingSample(
      name: "stripes \(index)", frames: pictures, caption: index % 2 == 0 ? "disc pan_left" : "square flat",
      label: ["camera": "pan_left"])
  }
}
