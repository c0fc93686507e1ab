public import DiffusionLayers
import DiffusionModels
public import TensorCore

/// Denoising diffusion implicit models (Song et al., 2021; diffusers' `DDIMScheduler`).
public struct DDIM: Scheduler {
  public let timesteps: [Float]
  private let config: Config
  private let indices: [Int]
  /// Training timesteps that a step goes down.
  private let stride: Int

  public struct Config: SchedulerConfig, Equatable {
    public let schedule: NoiseSchedule
    public let prediction: PredictionType
    public let spacing: TimestepSpacing
    public let stepsOffset: Int
    /// Whether the last step arrives at a sample without noise, else at the first training timestep.
    public let setAlphaToOne: Bool
    /// Largest magnitude of a predicted clean sample; nil does not clip.
    public let clipRange: Float?
    /// Share of the noise that each step draws anew, 0 for none (an argument of the reference's step).
    public var eta: Float = 0

    /// - Throws: `ConfigError` for options that this sampler does not have.
    public init(_ json: JSONValue, file: String) throws {
      let reader = try ConfigReader(json, file: file)
      schedule = try NoiseSchedule(json, file: file)
      prediction = try reader.choice("prediction_type", default: .epsilon)
      spacing = try reader.choice("timestep_spacing", default: .leading)
      stepsOffset = try reader.integer("steps_offset", in: 0...schedule.count - 1, default: 0)
      setAlphaToOne = try reader.bool("set_alpha_to_one", default: true)
      clipRange =
        try reader.bool("clip_sample", default: true)
        ? Float(try reader.positive("clip_sample_range", atMost: 1e6, default: 1)) : nil
      guard prediction != .flowPrediction else {
        throw reader.invalid("prediction_type", "is \"flow_prediction\", which ddim cannot sample")
      }
      try reader.refuse(["thresholding"], by: "ddim")
    }

    public func scheduler(steps: Int) throws(PipelineError) -> any Scheduler { try DDIM(self, steps: steps) }
  }

  /// - Throws: `PipelineError.option` when the schedule has no such steps.
  public init(_ config: Config, steps: Int) throws(PipelineError) {
    self.config = config
    indices = try config.schedule.timesteps(config.spacing, steps: steps, offset: config.stepsOffset)
      .map { Int($0) }
    timesteps = indices.map { Float($0) }
    stride = config.schedule.count / steps
    try config.schedule.checkSignal(at: indices[0], config.prediction)
  }

  public func addNoise(_ clean: Tensor, noise: Tensor, at index: Int) -> Tensor {
    let level = Float(config.schedule.alphasCumprod[indices[index]])
    return (clean * level.squareRoot()).adding(noise, scaledBy: (1 - level).squareRoot())
  }

  public func step(_ index: Int, sample: Tensor, modelOutput: Tensor, noise: () -> Tensor) -> Tensor {
    let levels = config.schedule.alphasCumprod
    let next = indices[index] - stride
    let level = Float(levels[indices[index]])
    let nextLevel = next >= 0 ? Float(levels[next]) : config.setAlphaToOne ? 1 : Float(levels[0])
    let (alpha, sigma) = (level.squareRoot(), (1 - level).squareRoot())
    var clean = config.prediction.clean(sample, modelOutput, alpha: alpha, sigma: sigma)
    let epsilon = config.prediction.noise(sample, modelOutput, alpha: alpha, sigma: sigma)
    if let range = config.clipRange { clean = clean.clamped(to: range) }
    let variance = max(0, (1 - nextLevel) / (1 - level) * (1 - level / nextLevel))
    let deviation = config.eta * variance.squareRoot()
    let direction = max(0, 1 - nextLevel - deviation * deviation).squareRoot()
    let result = (clean * nextLevel.squareRoot()).adding(epsilon, scaledBy: direction)
    return config.eta > 0 ? result.adding(noise(), scaledBy: deviation) : result
  }
}

extension NoiseSchedule {
  /// Throws when a run would begin where the schedule leaves no signal, with a model that predicts the noise
  /// alone: nothing follows from its output there.
  func checkSignal(at timestep: Int, _ prediction: PredictionType) throws(PipelineError) {
    guard alphasCumprod[timestep] > 0 || prediction != .epsilon else {
      throw .unsupported(
        what: "a model that predicts noise, at the timestep \(timestep) without any signal in its schedule",
        remedy: "set timestep_spacing to \"leading\" in scheduler_config.json")
    }
  }
}

extension Tensor {
  /// Every element limited to `-range...range`.
  func clamped(to range: Float) -> Tensor {
    Tensor(shape: shape) { result in
      withFloats { source in
        for index in source.indices { result[index] = max(-range, min(range, source[index])) }
      }
    }
  }
}
