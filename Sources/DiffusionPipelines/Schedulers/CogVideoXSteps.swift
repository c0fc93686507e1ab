import DiffusionLayers
import DiffusionModels
import TensorCore

/// What both CogVideoX samplers share: the levels of a run's steps and the model's prediction.
struct CogVideoXSteps: Sendable {
  let config: Config
  let indices: [Int]
  private let stride: Int

  struct Config: Sendable, Equatable {
    let schedule: NoiseSchedule
    let prediction: PredictionType
    let spacing: TimestepSpacing
    let stepsOffset: Int
    let setAlphaToOne: Bool

    init(_ json: JSONValue, file: String, sampler: String) throws {
      let reader = try ConfigReader(json, file: file)
      schedule = try NoiseSchedule(
        json, file: file, form: .cogVideoX, betaStart: 0.00085, betaEnd: 0.012, betaSchedule: .scaledLinear,
        snrShift: 3)
      prediction = try reader.choice("prediction_type", default: .epsilon)
      spacing = try reader.choice("timestep_spacing", default: .leading)
      stepsOffset = try reader.integer("steps_offset", in: 0...schedule.count - 1, default: 0)
      setAlphaToOne = try reader.bool("set_alpha_to_one", default: true)
      guard prediction != .flowPrediction else {
        throw reader.invalid("prediction_type", "is \"flow_prediction\", which \(sampler) cannot sample")
      }
    }
  }

  init(_ config: Config, steps: Int) throws(PipelineError) {
    self.config = config
    indices = try config.schedule.timesteps(config.spacing, steps: steps, offset: config.stepsOffset)
      .map { Int($0) }
    stride = config.schedule.count / steps
    try config.schedule.checkSignal(at: indices[0], config.prediction)
  }

  /// `ᾱ` at step `index`.
  func level(_ index: Int) -> Double { config.schedule.alphasCumprod[indices[index]] }

  /// Whether step `index` ends the schedule.
  func isLast(_ index: Int) -> Bool { indices[index] < stride }

  /// `ᾱ` after step `index`.
  func nextLevel(_ index: Int) -> Double {
    let levels = config.schedule.alphasCumprod
    return isLast(index) ? (config.setAlphaToOne ? 1 : levels[0]) : levels[indices[index] - stride]
  }

  /// The clean sample that the model's output stands for.
  func clean(_ index: Int, sample: Tensor, modelOutput: Tensor) -> Tensor {
    let level = level(index)
    return config.prediction.clean(
      sample, modelOutput, alpha: Float(level.squareRoot()), sigma: Float((1 - level).squareRoot()))
  }

  func addNoise(_ clean: Tensor, noise: Tensor, at index: Int) -> Tensor {
    let level = Float(level(index))
    return (clean * level.squareRoot()).adding(noise, scaledBy: (1 - level).squareRoot())
  }
}
