public import DiffusionLayers
public import TensorCore

/// Arithmetic of the denoiser's matrix products.
///
/// - f32 is the reference. Matrices stay in the format of their file and are widened where they are used.
/// - bf16 rounds the matrices to bfloat16. Products take bfloat16 inputs where the processor multiplies them; elsewhere
///   it is a way of storing, with f32 arithmetic.
/// - int8 keeps the matrices of the blocks as 8-bit integers, with a scale per output channel, and quantises the
///   activations row by row.
/// - auto takes what a quantised model was made for, else bf16 where the processor multiplies it, else f32.
public enum Precision: String, Sendable, CaseIterable {
  case auto, f32, bf16, int8
}

/// Samplers by name; `auto` takes the one that the model names. Any other keeps the model's noise schedule and the
/// meaning of its predictions.
public enum SchedulerKind: String, Sendable, CaseIterable {
  case auto
  case flowMatchEuler = "flow-match-euler"
  case unipc
  case euler
  case eulerAncestral = "euler-ancestral"
  case ddim
  case dpmSolverMultistep = "dpmsolver-multistep"
  case lcm
}

/// How a model is loaded.
public struct LoadOptions: Sendable, Hashable {
  public var precision: Precision
  /// Bytes that weights and activations may take; 0 is no limit.
  public var memoryBudget: UInt64
  /// Whether weights are searched for NaN and infinity.
  public var checkFinite: Bool
  /// An AnimateDiff motion module, a file or a folder, for image models without one of their own.
  public var motionModule: String?

  public init(
    precision: Precision = .auto, memoryBudget: UInt64 = 0, checkFinite: Bool = true,
    motionModule: String? = nil
  ) {
    self.motionModule = motionModule
    self.precision = precision
    self.memoryBudget = memoryBudget
    self.checkFinite = checkFinite
  }
}

/// What a user sets for sampling. `steps` 0, `guidanceScale` below 0 and `scheduler` auto take the model's
/// own values.
public struct SamplerSettings: Sendable, Equatable {
  public var prompt: String
  public var negativePrompt: String
  /// A file with `prompt_embeds` (and `negative_prompt_embeds`) instead of text.
  public var promptEmbeds: String?
  public var steps: Int
  public var guidanceScale: Float
  public var scheduler: SchedulerKind
  public var seed: UInt64
  public var compose: ComposeMode
  /// First-block cache: the largest relative change of the first block's residual at which a step takes the other
  /// blocks' from the step before; 0 is off, the largest is 1.
  public var cacheThreshold: Float

  public init(
    prompt: String = "", negativePrompt: String = "", promptEmbeds: String? = nil, steps: Int = 0,
    guidanceScale: Float = -1, scheduler: SchedulerKind = .auto, seed: UInt64 = 0,
    compose: ComposeMode = .sum, cacheThreshold: Float = 0
  ) {
    self.prompt = prompt
    self.negativePrompt = negativePrompt
    self.promptEmbeds = promptEmbeds
    self.steps = steps
    self.guidanceScale = guidanceScale
    self.scheduler = scheduler
    self.seed = seed
    self.compose = compose
    self.cacheThreshold = cacheThreshold
  }
}

/// How far one clip has come.
public struct GenerationProgress: Sendable, Equatable {
  /// Index of the clip (window) in its stream.
  public let clip: Int
  /// Denoising steps done, of `steps`.
  public let step: Int
  public let steps: Int
  /// Share of this clip's work that is done, 0…1.
  public let fraction: Double
  /// Seconds until this clip is done, once a step was timed.
  public let etaSeconds: Double?
}

/// How a caller watches and stops a run.
public struct RunMonitor: Sendable {
  public let cancellation: Cancellation
  public let progress: (@Sendable (GenerationProgress) -> Void)?

  public init(
    cancellation: Cancellation = Cancellation(), progress: (@Sendable (GenerationProgress) -> Void)? = nil
  ) {
    self.cancellation = cancellation
    self.progress = progress
  }
}

/// Seconds by stage and counts of a run or a stream.
public struct StageSeconds: Sendable, Equatable {
  public var text = 0.0
  public var encode = 0.0
  public var denoise = 0.0
  public var decode = 0.0
  public var clips = 0
  public var frames = 0
  /// Denoising steps, and those of them in which the first-block cache left out the other blocks.
  public var steps = 0
  public var cachedSteps = 0
  /// The most bytes of live tensors at one time.
  public var peakBytes = 0

  public init() {}
}

/// Seconds of a monotonic clock.
package func now() -> Double {
  let duration = ContinuousClock.now - clockOrigin
  return Double(duration.components.seconds) + Double(duration.components.attoseconds) * 1e-18
}
private let clockOrigin = ContinuousClock.now
