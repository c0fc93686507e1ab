public import DiffusionLayers
import DiffusionModels
import Glibc
public import TensorCore

/// The unified predictor-corrector solver (Zhao et al., "UniPC", 2023; diffusers' `UniPCMultistepScheduler`).
public struct UniPCMultistep: Scheduler {
  private let config: Config
  private let schedule: SolverSchedule
  /// Predictions of the steps before, the newest last, `solver_order` at most: clean samples or noise.
  private var predictions: [Tensor] = []
  private var lastSample: Tensor?
  private var lastOrder = 0

  /// Form of the function `B(h)`.
  public enum Variant: String, Sendable, CaseIterable { case bh1, bh2 }

  public struct Config: SchedulerConfig, Equatable {
    public let options: SolverOptions
    public let variant: Variant
    /// Whether the solver works on predictions of the clean sample, else of the noise.
    public let predictsClean: Bool
    /// Steps after which the sample is not corrected.
    public let uncorrected: Set<Int>

    /// - Throws: `ConfigError` for options that this sampler does not have.
    public init(_ json: JSONValue, file: String) throws {
      let reader = try ConfigReader(json, file: file)
      options = try SolverOptions(json, file: file, sampler: "unipc")
      // The other solvers' types stand for the default, as in the reference.
      let type = try? reader.string("solver_type")
      variant =
        ["midpoint", "heun", "logrho"].contains(type) ? .bh2 : try reader.choice("solver_type", default: .bh2)
      predictsClean = try reader.bool("predict_x0", default: true)
      let steps = json.object?["disable_corrector"]?.array ?? []
      uncorrected = Set(steps.compactMap(\.int))
      guard steps.allSatisfy({ $0.int != nil }) else {
        throw reader.invalid("disable_corrector", "must be a list of whole numbers")
      }
      guard !options.usesFlowSigmas || options.levels.kind != .exponential else {
        throw reader.invalid("use_flow_sigmas", "excludes use_exponential_sigmas")
      }
      guard predictsClean || options.prediction != .flowPrediction else {
        throw reader.invalid("predict_x0", "must be true for a model that predicts a flow")
      }
      // The step to a sample without noise is infinitely long in these forms.
      if options.finalSigma == .zero {
        guard predictsClean else {
          throw reader.invalid("predict_x0", "must be true with final_sigmas_type \"zero\"")
        }
        guard options.lowerOrderFinal || options.order == 1 else {
          throw reader.invalid("lower_order_final", "must be true with final_sigmas_type \"zero\"")
        }
      }
      try reader.refuseValues(["solver_p", "shift_terminal"], by: "unipc")
    }

    public func scheduler(steps: Int) throws(PipelineError) -> any Scheduler {
      try UniPCMultistep(self, steps: steps)
    }

    public func scheduler(steps: Int, strength: Float) throws(PipelineError)
      -> (scheduler: any Scheduler, firstStep: Int)
    {
      guard options.usesFlowSigmas, options.levels.kind == .timesteps else {
        let whole = try scheduler(steps: steps)
        return (whole, firstStep(of: steps, strength: strength))
      }
      let sigmas = NoiseSchedule.flowSigmas(shift: options.flowShift, steps: steps, strength: strength)
      return (UniPCMultistep(self, try flow(sigmas)), 0)
    }

    fileprivate func schedule(_ steps: Int) throws(PipelineError) -> SolverSchedule {
      let (training, table) = (options.schedule, options.schedule.sigmas)
      let (high, low) = (Double(table[table.count - 1]), Double(table[0]))
      if var sigmas = options.levels.spaced(high: high, low: low, steps) {
        var timesteps = sigmas.map { training.timestep(ofSigma: $0, of: table) }
        if options.levels.kind == .karras {
          timesteps = timesteps.map { $0.rounded(.toNearestOrEven) }
          if options.usesFlowSigmas {
            sigmas = sigmas.map { $0 / ($0 + 1) }
            timesteps = sigmas.map { $0 * Double(training.count) }
          }
        }
        return try finished(timesteps, sigmas, sigmaMin: Float(sigmas.last ?? 0))
      }
      if options.usesFlowSigmas {
        let shares = NoiseSchedule.linspace(1, 1 / Double(training.count), steps + 1).dropLast()
        return try flow(shares.map { NoiseSchedule.shifted($0, by: options.flowShift) })
      }
      let timesteps = try options.timesteps(steps)
      return try finished(timesteps, timesteps.map { training.sigma(at: $0, of: table) }, sigmaMin: table[0])
    }

    private func flow(_ levels: [Double]) throws(PipelineError) -> SolverSchedule {
      var sigmas = levels
      // At 1 there would be no signal whose logarithm the solver could take.
      if abs(sigmas[0] - 1) < 1e-6 { sigmas[0] -= 1e-6 }
      let timesteps = sigmas.map { $0 * Double(options.schedule.count) }
      return try finished(timesteps, sigmas, sigmaMin: Float(sigmas[sigmas.count - 1]))
    }

    private func finished(_ timesteps: [Double], _ sigmas: [Double], sigmaMin: Float) throws(PipelineError)
      -> SolverSchedule
    {
      try SolverSchedule(
        timesteps: timesteps, sigmas: sigmas, final: options.finalSigma == .zero ? 0 : sigmaMin,
        isFlow: options.usesFlowSigmas)
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
    let (alpha, sigma) = (schedule.alpha(index), schedule.sigma(index))
    let kind = config.options.prediction
    let prediction =
      config.predictsClean
      ? kind.clean(sample, modelOutput, alpha: alpha, sigma: sigma)
      : kind.noise(sample, modelOutput, alpha: alpha, sigma: sigma)
    var sample = sample
    if index > 0, !config.uncorrected.contains(index - 1), let lastSample {
      sample = advanced(lastSample, from: index - 1, order: lastOrder, corrector: prediction)
    }
    predictions.append(prediction)
    if predictions.count > config.options.order { predictions.removeFirst() }
    let order = config.options.order
    lastOrder = min(
      config.options.lowerOrderFinal ? min(order, timesteps.count - index) : order, predictions.count)
    lastSample = sample
    return advanced(sample, from: index, order: lastOrder, corrector: nil)
  }

  /// The sample one step after `index`: predicted from the history or, with the prediction that the model made
  /// there, corrected.
  private func advanced(_ x: Tensor, from index: Int, order: Int, corrector: Tensor?) -> Tensor {
    let width = schedule.lambda(index + 1) - schedule.lambda(index)
    let h = config.predictsClean ? -width : width
    let growth = expm1f(h)
    let (kept, scale) =
      config.predictsClean
      ? (schedule.sigma(index + 1) / schedule.sigma(index), schedule.alpha(index + 1))
      : (schedule.alpha(index + 1) / schedule.alpha(index), schedule.sigma(index + 1))
    let newest = predictions[predictions.count - 1]
    var result = (x * kept).adding(newest, scaledBy: -scale * growth)
    if order == 1 && corrector == nil { return result }

    // Where the older predictions lie, in units of this step; the corrector's own lies at 1.
    let ratios = (1..<order).map { (schedule.lambda(index - $0) - schedule.lambda(index)) / width }
    let amount = config.variant == .bh1 ? h : growth
    let weights = weights(ratios, corrects: corrector != nil, h: h, growth: growth, amount: amount)
    for (offset, ratio) in ratios.enumerated() {
      let older = predictions[predictions.count - 2 - offset]
      result = result.adding(older - newest, scaledBy: -scale * amount * weights[offset] / ratio)
    }
    if let corrector {
      result = result.adding(corrector - newest, scaledBy: -scale * amount * weights[weights.count - 1])
    }
    return result
  }

  /// Weights of the differences to the newest prediction: the solution of the paper's system of order conditions.
  private func weights(_ ratios: [Float], corrects: Bool, h: Float, growth: Float, amount: Float) -> [Float] {
    let positions = corrects ? ratios + [1] : ratios
    // The reference fixes the lowest orders instead of solving for them.
    if positions.count == 1 { return [0.5] }
    var (power, factorial): (Double, Double) = (Double(growth) / Double(h) - 1, 1)
    var rows: [[Double]] = []
    for row in positions.indices {
      rows.append(positions.map { pow(Double($0), Double(row)) } + [power * factorial / Double(amount)])
      factorial *= Double(row + 2)
      power = power / Double(h) - 1 / factorial
    }
    return solve(rows).map { Float($0) }
  }

  /// Solves a small linear system; every row holds its coefficients and its right side.
  private func solve(_ system: [[Double]]) -> [Double] {
    var rows = system
    let count = rows.count
    for column in 0..<count {
      let pivot = (column..<count).max { abs(rows[$0][column]) < abs(rows[$1][column]) } ?? column
      rows.swapAt(column, pivot)
      for row in 0..<count where row != column {
        let factor = rows[row][column] / rows[column][column]
        for entry in column...count { rows[row][entry] -= factor * rows[column][entry] }
      }
    }
    return (0..<count).map { rows[$0][count] / rows[$0][$0] }
  }
}
