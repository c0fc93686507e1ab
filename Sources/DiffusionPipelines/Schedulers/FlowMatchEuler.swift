public import DiffusionLayers
import DiffusionModels
public import TensorCore

/// Euler steps along a rectified flow `x_σ = (1 - σ) x₀ + σ ε`, the model predicting `ε - x₀`
/// (diffusers' `FlowMatchEulerDiscreteScheduler`).
public struct FlowMatchEuler: Scheduler {
  /// Noise levels of the steps and, last, 0.
  public let sigmas: [Float]
  /// What the model is told at each step: `1000 σ`.
  public let timesteps: [Float]

  /// Shift and number of training timesteps, the part of `scheduler_config.json` that matters here.
  public struct Config: SchedulerConfig, Equatable {
    public var shift: Double
    public var trainTimesteps: Int

    public init(shift: Double = 1, trainTimesteps: Int = 1000) {
      self.shift = shift
      self.trainTimesteps = trainTimesteps
    }

    /// Reads a parsed `scheduler_config.json`; `flow_shift` of other flow samplers counts as `shift`.
    /// - Throws: `ConfigError` for options that this sampler does not have.
    public init(_ json: JSONValue, file: String) throws {
      try self.init(json, file: file, sampler: "flow-match-euler")
      try ConfigReader(json, file: file).refuse(["stochastic_sampling"], by: "flow-match-euler")
    }

    init(_ json: JSONValue, file: String, sampler: String) throws {
      let reader = try ConfigReader(json, file: file)
      let key = reader.isNull("shift") ? "flow_shift" : "shift"
      shift = try reader.positive(key, atMost: 1000, default: 1)
      trainTimesteps = try reader.integer("num_train_timesteps", in: 1...1_000_000, default: 1000)
      try reader.refuse(
        [
          "use_dynamic_shifting", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas",
          "invert_sigmas",
        ], by: sampler)
      try reader.refuseValues(["shift_terminal"], by: sampler)
    }

    public func scheduler(steps: Int) -> any Scheduler { FlowMatchEuler(self, steps: steps) }

    public func scheduler(steps: Int, strength: Float) -> (scheduler: any Scheduler, firstStep: Int) {
      (FlowMatchEuler(self, steps: steps, strength: strength), 0)
    }

    /// The levels of the whole schedule from pure noise, as diffusers spaces them.
    func sigmas(steps: Int) -> [Float] {
      let count = Double(trainTimesteps)
      // The reference keeps its bounds in single precision and shifts them once already.
      let first = Double(Float(NoiseSchedule.shifted(1, by: shift))) * count
      let last = Double(Float(NoiseSchedule.shifted(1 / count, by: shift))) * count
      return NoiseSchedule.linspace(first, last, steps).map {
        Float(NoiseSchedule.shifted($0 / count, by: shift))
      }
    }

    /// The levels that `strength` leaves.
    func sigmas(steps: Int, strength: Float) -> [Float] {
      NoiseSchedule.flowSigmas(shift: shift, steps: steps, strength: strength).map { Float($0) }
    }
  }

  /// The whole schedule from pure noise, as diffusers spaces it.
  public init(_ config: Config, steps: Int) {
    self.init(sigmas: config.sigmas(steps: steps), config)
  }

  /// The part of a schedule that `strength` (0…1] leaves: `max(1, round(steps * strength))` equal steps from
  /// the level that the share `strength` shifts to, down to 0. Strength 1 starts from pure noise.
  public init(_ config: Config, steps: Int, strength: Float) {
    self.init(sigmas: config.sigmas(steps: steps, strength: strength), config)
  }

  private init(sigmas: [Float], _ config: Config) {
    self.sigmas = sigmas + [0]
    timesteps = sigmas.map { $0 * Float(config.trainTimesteps) }
  }

  public func addNoise(_ clean: Tensor, noise: Tensor, at index: Int) -> Tensor {
    (noise * sigmas[index]).adding(clean, scaledBy: 1 - sigmas[index])
  }

  public func step(_ index: Int, sample: Tensor, modelOutput: Tensor, noise: () -> Tensor) -> Tensor {
    sample.adding(modelOutput, scaledBy: sigmas[index + 1] - sigmas[index])
  }
}
