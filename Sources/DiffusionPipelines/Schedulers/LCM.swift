public import DiffusionLayers
import DiffusionModels
public import TensorCore

/// Latent consistency models: every step predicts the clean sample and noises it anew (Luo et al., 2023; diffusers'
/// `LCMScheduler`).
public struct LCM: Scheduler {
  public let timesteps: [Float]
  private let config: Config
  private let indices: [Int]

  public struct Config: SchedulerConfig, Equatable {
    public let schedule: NoiseSchedule
    public let prediction: PredictionType
    /// Steps of the teacher's schedule, of which a run takes some.
    public let originalSteps: Int
    public let timestepScaling: Double
    public let clipRange: Float?

    /// - Throws: `ConfigError` for options that this sampler does not have.
    public init(_ json: JSONValue, file: String) throws {
      let reader = try ConfigReader(json, file: file)
      schedule = try NoiseSchedule(
        json, file: file, betaStart: 0.00085, betaEnd: 0.012, betaSchedule: .scaledLinear)
      prediction = try reader.choice("prediction_type", default: .epsilon)
      originalSteps = try reader.integer(
        "original_inference_steps", in: 1...schedule.count, default: min(50, schedule.count))
      timestepScaling = try reader.positive("timestep_scaling", atMost: 1e6, default: 10)
      clipRange =
        try reader.bool("clip_sample", default: false)
        ? Float(try reader.positive("clip_sample_range", atMost: 1e6, default: 1)) : nil
      guard prediction != .flowPrediction else {
        throw reader.invalid("prediction_type", "is \"flow_prediction\", which lcm cannot sample")
      }
      try reader.refuse(["thresholding"], by: "lcm")
    }

    public func scheduler(steps: Int) throws(PipelineError) -> any Scheduler { try LCM(self, steps: steps) }
  }

  /// - Throws: `PipelineError.option` for more steps than the teacher's schedule has.
  public init(_ config: Config, steps: Int) throws(PipelineError) {
    self.config = config
    let original = config.originalSteps
    try checkSteps(steps, atMost: original, "the model was distilled from a schedule of \(original) steps")
    let spacing = config.schedule.count / original
    let stride = Double(original) / Double(steps)
    // Equal strides down the teacher's timesteps, from the noisiest.
    indices = (0..<steps).map { (original - Int((Double($0) * stride).rounded(.down))) * spacing - 1 }
    timesteps = indices.map { Float($0) }
    try config.schedule.checkSignal(at: indices[0], config.prediction)
  }

  public func addNoise(_ clean: Tensor, noise: Tensor, at index: Int) -> Tensor {
    let level = Float(config.schedule.alphasCumprod[indices[index]])
    return (clean * level.squareRoot()).adding(noise, scaledBy: (1 - level).squareRoot())
  }

  public func step(_ index: Int, sample: Tensor, modelOutput: Tensor, noise: () -> Tensor) -> Tensor {
    let levels = config.schedule.alphasCumprod
    let level = Float(levels[indices[index]])
    var clean = config.prediction.clean(
      sample, modelOutput, alpha: level.squareRoot(), sigma: (1 - level).squareRoot())
    if let range = config.clipRange { clean = clean.clamped(to: range) }
    // The boundary condition: at timestep 0 the sample itself is the answer.
    let scaled = Float(indices[index]) * Float(config.timestepScaling)
    let data: Float = 0.25
    let denoised = (clean * (scaled / (scaled * scaled + data).squareRoot()))
      .adding(sample, scaledBy: data / (scaled * scaled + data))
    guard index + 1 < indices.count else { return denoised }
    let next = Float(levels[indices[index + 1]])
    return (denoised * next.squareRoot()).adding(noise(), scaledBy: (1 - next).squareRoot())
  }
}
