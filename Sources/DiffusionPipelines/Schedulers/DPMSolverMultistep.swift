public import DiffusionLayers
import DiffusionModels
import Glibc
public import TensorCore

/// DPM-Solver++ and its stochastic form, multistep (Lu et al., 2022; diffusers' `DPMSolverMultistepScheduler`).
public struct DPMSolverMultistep: Scheduler {
  private let config: Config
  private let schedule: SolverSchedule
  /// Clean samples predicted in the steps before, the newest last, `solver_order` at most.
  private var predictions: [Tensor] = []

  public enum Algorithm: String, Sendable, CaseIterable {
    case deterministic = "dpmsolver++"
    case stochastic = "sde-dpmsolver++"
  }

  /// How the second order takes the change between predictions.
  public enum Variant: String, Sendable, CaseIterable { case midpoint, heun }

  public struct Config: SchedulerConfig, Equatable {
    public let options: SolverOptions
    public let algorithm: Algorithm
    public let variant: Variant
    public let eulerAtFinal: Bool
    /// Training timesteps that a run uses, from 0 (`lambda_min_clipped`).
    public let lastTimestep: Int
    /// Whether timesteps found for given levels are rounded.
    private let roundsTimesteps: Bool

    /// - Throws: `ConfigError` for options that this sampler does not have.
    public init(_ json: JSONValue, file: String) throws {
      let (reader, name) = (try ConfigReader(json, file: file), "dpmsolver-multistep")
      options = try SolverOptions(json, file: file, sampler: name)
      // The names of related solvers stand for the default, as in the reference.
      let type = try? reader.string("solver_type")
      variant =
        ["logrho", "bh1", "bh2"].contains(type)
        ? .midpoint : try reader.choice("solver_type", default: .midpoint)
      let algorithm = try? reader.string("algorithm_type")
      self.algorithm =
        algorithm == "deis"
        ? .deterministic : try reader.choice("algorithm_type", default: .deterministic)
      eulerAtFinal = try reader.bool("euler_at_final", default: false)
      roundsTimesteps = try reader.choice("beta_schedule", default: BetaSchedule.linear) != .squaredCosine
      let levels = options.schedule.alphasCumprod
      if reader.isNull("lambda_min_clipped") {
        lastTimestep = levels.count
      } else {
        let bound = try reader.number("lambda_min_clipped")
        lastTimestep = levels.firstIndex { 0.5 * log($0 / (1 - $0)) < bound } ?? levels.count
        guard lastTimestep > 1 else { throw reader.invalid("lambda_min_clipped", "leaves no timesteps") }
      }
      guard !options.usesFlowSigmas || options.levels.kind == .timesteps else {
        throw reader.invalid("use_flow_sigmas", "excludes use_karras_sigmas and use_exponential_sigmas")
      }
      try reader.refuse(["use_lu_lambdas"], by: name)
      try reader.refuseValues(["variance_type"], by: name)
    }

    public func scheduler(steps: Int) throws(PipelineError) -> any Scheduler {
      try DPMSolverMultistep(self, steps: steps)
    }

    public func scheduler(steps: Int, strength: Float) throws(PipelineError)
      -> (scheduler: any Scheduler, firstStep: Int)
    {
      guard options.usesFlowSigmas else {
        let whole = try scheduler(steps: steps)
        return (whole, firstStep(of: steps, strength: strength))
      }
      let sigmas = NoiseSchedule.flowSigmas(shift: options.flowShift, steps: steps, strength: strength)
      return (DPMSolverMultistep(self, try flow(sigmas)), 0)
    }

    fileprivate func schedule(_ steps: Int) throws(PipelineError) -> SolverSchedule {
      let (training, table) = (options.schedule, options.schedule.sigmas)
      let (high, low) = (Double(table[table.count - 1]), Double(table[0]))
      if let sigmas = options.levels.spaced(high: high, low: low, steps) {
        var timesteps = sigmas.map { training.timestep(ofSigma: $0, of: table) }
        if roundsTimesteps && options.levels.kind == .karras {
          timesteps = timesteps.map { $0.rounded(.toNearestOrEven) }
        }
        return try finished(timesteps, sigmas)
      }
      if options.usesFlowSigmas {
        // The reference spaces the clean sample's share, so that the first level lies just below 1.
        let kept = NoiseSchedule.linspace(1, 1 / Double(training.count), steps + 1).dropFirst()
        return try flow(kept.reversed().map { NoiseSchedule.shifted(1 - $0, by: options.flowShift) })
      }
      let timesteps = try options.timesteps(steps, last: lastTimestep)
      return try finished(timesteps, timesteps.map { training.sigma(at: $0, of: table) })
    }

    private func flow(_ levels: [Double]) throws(PipelineError) -> SolverSchedule {
      var sigmas = levels
      // At 1 there would be no signal whose logarithm the solver could take.
      if abs(sigmas[0] - 1) < 1e-6 { sigmas[0] -= 1e-6 }
      return try finished(sigmas.map { $0 * Double(options.schedule.count) }, sigmas)
    }

    private func finished(_ timesteps: [Double], _ sigmas: [Double]) throws(PipelineError) -> SolverSchedule {
      try SolverSchedule(
        timesteps: timesteps, sigmas: sigmas,
        final: options.finalSigma == .zero ? 0 : options.schedule.sigmas[0], isFlow: options.usesFlowSigmas)
    }
  }

  /// - Throws: `PipelineError.option` when the schedule has no such steps.
  public init(_ config: Config, steps: Int) throws(PipelineError) {
    self.init(config, try config.schedule(steps))
  }

  private init(_ config: Config, _ schedule: SolverSchedule) {
    self.config = config
    self.schedule = schedule
  }

  public var timesteps: [Float] { schedule.timesteps }
  public var sigmas: [Float] { schedule.sigmas }

  public func addNoise(_ clean: Tensor, noise: Tensor, at index: Int) -> Tensor {
    schedule.addNoise(clean, noise: noise, at: index)
  }

  public mutating func step(_ index: Int, sample: Tensor, modelOutput: Tensor, noise: () -> Tensor) -> Tensor
  {
    let clean = config.options.prediction.clean(
      sample, modelOutput, alpha: schedule.alpha(index), sigma: schedule.sigma(index))
    predictions.append(clean)
    if predictions.count > config.options.order { predictions.removeFirst() }
    let result = advanced(sample, from: index, order: min(predictions.count, orderLimit(index)))
    guard config.algorithm == .stochastic else { return result }
    let width = schedule.lambda(index + 1) - schedule.lambda(index)
    return result.adding(
      noise(), scaledBy: schedule.sigma(index + 1) * (1 - expf(-2 * width)).squareRoot())
  }

  /// Few steps end with lower orders, and the step to no noise at all is always of the first.
  private func orderLimit(_ index: Int) -> Int {
    let left = timesteps.count - index
    let lowers = config.options.lowerOrderFinal && timesteps.count < 15
    if left == 1 && (config.eulerAtFinal || lowers || config.options.finalSigma == .zero) { return 1 }
    return left == 2 && lowers ? 2 : 3
  }

  /// The sample one step after `index` without fresh noise.
  private func advanced(_ x: Tensor, from index: Int, order: Int) -> Tensor {
    let lambda = schedule.lambda(index)
    let width = schedule.lambda(index + 1) - lambda
    let stochastic = config.algorithm == .stochastic
    // The exponential integrals of the zeroth, first and second order over the step.
    let decay = stochastic ? 2 * width : width
    let alpha = schedule.alpha(index + 1)
    let zeroth = -expm1f(-decay)
    let kept = schedule.sigma(index + 1) / schedule.sigma(index) * (stochastic ? expf(-width) : 1)
    let newest = predictions[predictions.count - 1]
    var result = (x * kept).adding(newest, scaledBy: alpha * zeroth)
    guard order > 1 else { return result }

    let ratio = (lambda - schedule.lambda(index - 1)) / width
    var slope = (newest - predictions[predictions.count - 2]) * (1 / ratio)
    let first = 1 - zeroth / decay
    if order == 2 {
      return result.adding(slope, scaledBy: alpha * (config.variant == .heun ? first : zeroth / 2))
    }
    let before = (schedule.lambda(index - 1) - schedule.lambda(index - 2)) / width
    let older = predictions[predictions.count - 2] - predictions[predictions.count - 3]
    let bend = (slope - older * (1 / before)) * (1 / (ratio + before))
    slope = slope.adding(bend, scaledBy: ratio)
    result = result.adding(slope, scaledBy: alpha * first)
    let second = (decay - zeroth) / (decay * decay)
    // The reference has the half with this sign in its stochastic form.
    return result.adding(bend, scaledBy: alpha * ((stochastic ? -0.5 : 0.5) - second))
  }
}
