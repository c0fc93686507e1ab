public import DiffusionLayers
import DiffusionModels
public import TensorCore

/// Euler steps along a rectified flow `x_σ = (1 - σ) x₀ + σ ε`, the model predicting `ε - x₀`
/// (diffusers' `FlowMatchEulerDiscreteScheduler`).
public struct FlowMatchEuler: Sendable {
  /// Noise levels of the steps and, last, 0.
  public let sigmas: [Float]
  /// What the model is told at each step: `1000 σ`.
  public let timesteps: [Float]

  /// Shift and number of training timesteps, the part of `scheduler_config.json` that matters here.
  public struct Config: Sendable, Equatable {
    public var shift: Double
    public var trainTimesteps: Int

    public init(shift: Double = 1, trainTimesteps: Int = 1000) {
      self.shift = shift
      self.trainTimesteps = trainTimesteps
    }

    /// Reads a parsed `scheduler_config.json`; `flow_shift` of other flow samplers counts as `shift`.
    public init(_ json: JSONValue, file: String) throws {
      let reader = try ConfigReader(json, file: file)
      shift = try reader.number("shift", default: try reader.number("flow_shift", default: 1))
      trainTimesteps = try reader.integer("num_train_timesteps", in: 1...1_000_000, default: 1000)
      guard shift > 0 else { throw reader.invalid("shift", "must be positive") }
      for key in [
        "use_dynamic_shifting", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas",
        "invert_sigmas",
        "stochastic_sampling",
      ] where try reader.bool(key, default: false) {
        throw reader.invalid(key, "is not supported by flow-match-euler")
      }
      guard reader.isNull("shift_terminal") else {
        throw reader.invalid("shift_terminal", "is not supported by flow-match-euler")
      }
    }

    /// The level that a share `u` of the whole schedule shifts to.
    func shifted(_ u: Double) -> Double { shift * u / (1 + (shift - 1) * u) }
  }

  /// The whole schedule from pure noise, as diffusers spaces it.
  public init(_ config: Config, steps: Int) {
    let count = Double(config.trainTimesteps)
    // The reference keeps its bounds in single precision and shifts them once already.
    let first = Double(Float(config.shifted(1))) * count
    let last = Double(Float(config.shifted(1 / count))) * count
    let sigmas = (0..<steps).map { index in
      let timestep = steps == 1 ? first : first + (last - first) / Double(steps - 1) * Double(index)
      return Float(config.shifted(timestep / count))
    }
    self.init(sigmas: sigmas, config)
  }

  /// The part of a schedule that `strength` (0…1] leaves: `max(1, round(steps * strength))` equal steps from
  /// the level that the share `strength` shifts to, down to 0. Strength 1 starts from pure noise.
  public init(_ config: Config, steps: Int, strength: Float) {
    let share = Double(max(0, min(1, strength)))
    let count = max(1, Int((Double(steps) * share).rounded()))
    let sigmas = (0..<count).map { Float(config.shifted(share * (1 - Double($0) / Double(count)))) }
    self.init(sigmas: sigmas, config)
  }

  private init(sigmas: [Float], _ config: Config) {
    self.sigmas = sigmas + [0]
    timesteps = sigmas.map { $0 * Float(config.trainTimesteps) }
  }

  /// Noisy latents at the first level: `σ ε + (1 - σ) x₀`.
  public func addNoise(_ clean: Tensor, noise: Tensor) -> Tensor {
    (noise * sigmas[0]).adding(clean, scaledBy: 1 - sigmas[0])
  }

  /// The sample after step `index`, given the model's `velocity` there.
  public func step(_ index: Int, sample: Tensor, velocity: Tensor) -> Tensor {
    sample.adding(velocity, scaledBy: sigmas[index + 1] - sigmas[index])
  }
}
