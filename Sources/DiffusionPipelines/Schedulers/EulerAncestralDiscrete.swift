public import DiffusionLayers
import DiffusionModels
public import TensorCore

/// Ancestral sampling with Euler steps: each goes below the next level and adds fresh noise up to it (diffusers'
/// `EulerAncestralDiscreteScheduler`).
public struct EulerAncestralDiscrete: Scheduler {
  public let timesteps: [Float]
  public let sigmas: [Float]
  public let initNoiseSigma: Float
  private let prediction: PredictionType

  public struct Config: SchedulerConfig, Equatable {
    public let schedule: NoiseSchedule
    public let prediction: PredictionType
    public let spacing: TimestepSpacing
    public let stepsOffset: Int

    /// - Throws: `ConfigError` for options that this sampler does not have.
    public init(_ json: JSONValue, file: String) throws {
      let reader = try ConfigReader(json, file: file)
      schedule = try NoiseSchedule(json, file: file, form: .solver)
      prediction = try reader.choice("prediction_type", default: .epsilon)
      spacing = try reader.choice("timestep_spacing", default: .linspace)
      stepsOffset = try reader.integer("steps_offset", in: 0...schedule.count - 1, default: 0)
      guard prediction == .epsilon || prediction == .vPrediction else {
        throw reader.invalid(
          "prediction_type", "is \"\(prediction.rawValue)\", which euler-ancestral cannot sample")
      }
    }

    public func scheduler(steps: Int) throws(PipelineError) -> any Scheduler {
      try EulerAncestralDiscrete(self, steps: steps)
    }
  }

  /// - Throws: `PipelineError.option` when the schedule has no such steps.
  public init(_ config: Config, steps: Int) throws(PipelineError) {
    let schedule = config.schedule
    let table = schedule.sigmas
    timesteps = try schedule.timesteps(
      config.spacing, steps: steps, offset: config.stepsOffset, rounded: false
    ).map { Float($0) }
    sigmas = timesteps.map { Float(schedule.sigma(at: Double($0), of: table)) } + [0]
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
    let (from, to) = (sigmas[index], sigmas[index + 1])
    let clean = prediction.exploding(sample, modelOutput, sigma: from)
    let up = (to * to * (from * from - to * to) / (from * from)).squareRoot()
    let down = max(0, to * to - up * up).squareRoot()
    return sample.adding(sample - clean, scaledBy: (down - from) / from).adding(noise(), scaledBy: up)
  }
}
