import ArgumentParser
import DiffusionLayers
import DiffusionPipelines
import TensorCore

/// Which model, and how it computes.
struct ModelOptions: ParsableArguments {
  @Option(help: "Model directory in diffusers' layout, or a builtin name.")
  var model = "builtin:nano"

  @Option(
    help: ArgumentHelp(
      "AnimateDiff motion module for a Stable Diffusion 1.5 model without one.", valueName: "path"))
  var motionModule: String?

  @Option(help: "Arithmetic.")
  var precision = Precision.auto

  @Option(help: ArgumentHelp("Threads of the engine (0 = all cores).", valueName: "n"))
  var threads = 0

  @Option(
    help: ArgumentHelp("Bytes that weights and activations may take (0 = no limit).", valueName: "bytes"))
  var memoryBudget: UInt64 = 0

  func validate() throws {
    guard (0...1024).contains(threads) else { throw ValidationError("--threads must lie in 0…1024.") }
  }

  var loadOptions: LoadOptions {
    LoadOptions(precision: precision, memoryBudget: memoryBudget, motionModule: motionModule)
  }

  /// Loads the model with a progress bar.
  func load(_ requests: [AdapterRequest], cancellation: Cancellation, progress: ProgressLine) throws
    -> VideoModel
  {
    EngineThreads.request(threads)
    let model = try VideoModel.load(
      model, options: loadOptions, cancellation: cancellation
    ) { progress.show("loading \($0.component)", fraction: $0.fraction) }
    progress.clear()
    return requests.isEmpty ? model : try model.adapted(with: requests)
  }
}

/// Text and sampler.
struct SamplerOptions: ParsableArguments {
  @Option(help: "What to draw.")
  var prompt = ""

  @Option(help: "What to avoid, when guidance is on.")
  var negativePrompt = ""

  @Option(
    help: ArgumentHelp(
      "Precomputed embeddings (prompt_embeds, negative_prompt_embeds) in place of text.", valueName: "file"))
  var promptEmbeds: String?

  @Option(help: "Denoising steps (0 = the model's default).")
  var steps = 0

  @Option(help: "Classifier-free guidance (1 = off, -1 = the model's default).")
  var guidance: Float = -1

  @Option(help: "Sampling algorithm.")
  var scheduler = SchedulerKind.auto

  @Option(help: "Seed of the noise; clip i uses seed + i.")
  var seed: UInt64 = 0

  @Option(
    help: ArgumentHelp(
      "First-block cache: steps whose first block changes by less than this share reuse the other blocks of the "
        + "step before (0 = off).", valueName: "share"))
  var cacheThreshold: Float = 0

  @Option(help: "How several adapters act together.")
  var compose = ComposeMode.sum

  func validate() throws {
    guard (0...10000).contains(steps) else { throw ValidationError("--steps must lie in 0…10000.") }
    guard guidance.isFinite, guidance == -1 || guidance >= 0 else {
      throw ValidationError("--guidance must be 0 or more, or -1 for the model's default.")
    }
    guard (0...1).contains(cacheThreshold) else {
      throw ValidationError("--cache-threshold must lie in 0…1.")
    }
  }

  var settings: SamplerSettings {
    SamplerSettings(
      prompt: prompt, negativePrompt: negativePrompt, promptEmbeds: promptEmbeds, steps: steps,
      guidanceScale: guidance, scheduler: scheduler, seed: seed, compose: compose,
      cacheThreshold: cacheThreshold)
  }
}
