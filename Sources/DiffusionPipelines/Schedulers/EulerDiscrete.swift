public import DiffusionLayers
import DiffusionModels
public import TensorCore

/// What a sampler's last step arrives at (diffusers' `final_sigmas_type`).
public enum FinalSigma: String, Sendable, CaseIterable {
  case zero
  case sigmaMin = "sigma_min"
}

/// Euler steps on `x_σ = x₀ + σ ε` (algorithm 2 of Karras et al., 2022, without churn; diffusers'
/// `EulerDiscreteScheduler`).
public struct EulerDiscrete: Scheduler {
  public let timesteps: [Float]
  public let sigmas: [Float]
  public let initNoiseSigma: Float
  private let prediction: PredictionType

  public struct Config: SchedulerConfig, Equatable {
    public let schedule: NoiseSchedule
    public let prediction: PredictionType
    public let spacing: TimestepSpacing
    public let stepsOffset: Int
    public let levels: SigmaSpacing
    public let finalSigma: FinalSigma

    /// - Throws: `ConfigError` for options that this sampler does not have.
    public init(_ json: JSONValue, file: String) throws {
      let reader = try ConfigReader(json, file: file)
      schedule = try NoiseSchedule(json, file: file, form: .solver)
      let original = try? reader.string("prediction_type") == "original_sample"
      prediction = original == true ? .sample : try reader.choice("prediction_type", default: .epsilon)
      spacing = try reader.choice("timestep_spacing", default: .linspace)
      stepsOffset = try reader.integer("steps_offset", in: 0...schedule.count - 1, default: 0)
      levels = try SigmaSpacing(reader)
      finalSigma = try reader.choice("final_sigmas_type", default: .zero)
      guard prediction != .flowPrediction else {
        throw reader.invalid("prediction_type", "is \"flow_prediction\", which euler cannot sample")
      }
      try reader.refuse(["use_beta_sigmas"], by: "euler")
      try reader.expect("interpolation_type", "linear", allowMissing: true)
      try reader.expect("timestep_type", "discrete", allowMissing: true)
    }

    public func scheduler(steps: Int) throws(PipelineError) -> any Scheduler {
      try EulerDiscrete(self, steps: steps)
    }
  }

  /// - Throws: `PipelineError.option` when the schedule has no such steps.
  public init(_ config: Config, steps: Int) throws(PipelineError) {
    let schedule = config.schedule
    let table = schedule.sigmas
    var timesteps = try schedule.timesteps(
      config.spacing, steps: steps, offset: config.stepsOffset, rounded: false
    ).map { Float($0) }
    var levels = timesteps.map { schedule.sigma(at: Double($0), of: table) }
    if let spaced = config.levels.spaced(high: levels[0], low: levels[levels.count - 1], levels.count) {
      levels = spaced
      timesteps = levels.map { Float(schedule.timestep(ofSigma: $0, of: table)) }
    }
    self.timesteps = timesteps
    sigmas = levels.map { Float($0) } + [config.finalSigma == .zero ? 0 : table[0]]
    let highest = sigmas.max() ?? 1
    initNoiseSigma = config.spacing == .leading ? (highest * highest + 1).squareRoot() : highest
    prediction = config.prediction
  }

  public func scaleModelInput(_ sample: Tensor, _ index: Int) -> Tensor {
    sample * (1 / (sigmas[index] * sigmas[index] + 1).squareRoot())
  }

  public func addNoise(_ clean: Tensor, noise: Tensor, at index: Int) -> Tensor {
    clean.adding(noise, scaledBy: sigmas[index])
  }

  public func step(_ index: Int, sample: Tensor, modelOutput: Tensor, noise: () -> Tensor) -> Tensor {
    let clean = prediction.exploding(sample, modelOutput, sigma: sigmas[index])
    return sample.adding(sample - clean, scaledBy: (sigmas[index + 1] - sigmas[index]) / sigmas[index])
  }
}

extension PredictionType {
  /// The clean sample that an output stands for, for `x_σ = x₀ + σ ε` of which the model sees
  /// `x_σ / √(σ² + 1)`.
  func exploding(_ x: Tensor, _ output: Tensor, sigma: Float) -> Tensor {
    let square = sigma * sigma + 1
    return switch self {
    case .vPrediction: (x * (1 / square)).adding(output, scaledBy: -sigma / square.squareRoot())
    default: clean(x, output, alpha: 1, sigma: sigma)
    }
  }
}
