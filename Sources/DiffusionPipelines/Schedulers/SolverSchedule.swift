import DiffusionLayers
import DiffusionModels
import Glibc
import TensorCore

/// Options that both multistep solvers have.
public struct SolverOptions: Sendable, Equatable {
  public let schedule: NoiseSchedule
  public let prediction: PredictionType
  public let order: Int
  public let spacing: TimestepSpacing
  public let stepsOffset: Int
  public let levels: SigmaSpacing
  /// Levels of a rectified flow in place of the training schedule's.
  public let usesFlowSigmas: Bool
  public let flowShift: Double
  public let finalSigma: FinalSigma
  public let lowerOrderFinal: Bool

  init(_ json: JSONValue, file: String, sampler: String) throws(ConfigError) {
    let reader = try ConfigReader(json, file: file)
    schedule = try NoiseSchedule(json, file: file, form: .solver)
    prediction = try reader.choice("prediction_type", default: .epsilon)
    order = try reader.integer("solver_order", in: 1...3, default: 2)
    spacing = try reader.choice("timestep_spacing", default: .linspace)
    stepsOffset = try reader.integer("steps_offset", in: 0...schedule.count - 1, default: 0)
    levels = try SigmaSpacing(reader)
    usesFlowSigmas = try reader.bool("use_flow_sigmas", default: false)
    flowShift = try reader.positive("flow_shift", atMost: 1000, default: 1)
    finalSigma = try reader.choice("final_sigmas_type", default: .zero)
    lowerOrderFinal = try reader.bool("lower_order_final", default: true)
    guard prediction != .flowPrediction || usesFlowSigmas else {
      throw reader.invalid("prediction_type", "is \"flow_prediction\", which needs use_flow_sigmas")
    }
    try reader.refuse(["thresholding", "use_beta_sigmas", "use_dynamic_shifting"], by: sampler)
  }

  /// The timesteps of a run, the cleanest left out.
  func timesteps(_ steps: Int, last: Int? = nil) throws(PipelineError) -> [Double] {
    try schedule.timesteps(spacing, steps: steps, offset: stepsOffset, withoutFirst: true, last: last)
  }
}

/// The levels of one run of a multistep solver.
struct SolverSchedule: Sendable {
  /// Whole numbers, as the solvers tell their models.
  let timesteps: [Float]
  /// One more than `timesteps`.
  let sigmas: [Float]
  private let isFlow: Bool

  /// - Throws: `PipelineError` unless the levels fall from step to step.
  init(timesteps: [Double], sigmas: [Double], final: Float, isFlow: Bool) throws(PipelineError) {
    self.timesteps = timesteps.map { Float($0.rounded(.towardZero)) }
    let levels = sigmas.map { Float($0) }
    guard zip(levels, levels.dropFirst()).allSatisfy({ $0 > $1 }) else {
      throw .option(
        name: "steps", value: "\(sigmas.count)",
        reason: "gives noise levels that do not fall at every step; take fewer, or check sigma_min, "
          + "sigma_max and flow_shift in scheduler_config.json")
    }
    self.sigmas = levels + [final]
    self.isFlow = isFlow
  }

  /// Factor of the clean sample at level `index`.
  func alpha(_ index: Int) -> Float {
    isFlow ? 1 - sigmas[index] : 1 / (sigmas[index] * sigmas[index] + 1).squareRoot()
  }

  /// Factor of the noise at level `index`.
  func sigma(_ index: Int) -> Float { isFlow ? sigmas[index] : sigmas[index] * alpha(index) }

  /// Half the logarithm of the signal-to-noise ratio at level `index`; infinite without noise.
  func lambda(_ index: Int) -> Float { logf(alpha(index)) - logf(sigma(index)) }

  func addNoise(_ clean: Tensor, noise: Tensor, at index: Int) -> Tensor {
    (clean * alpha(index)).adding(noise, scaledBy: sigma(index))
  }
}
