import DiffusionLayers
import DiffusionModels
import Glibc

/// How the noise of a training schedule grows (diffusers' `beta_schedule`).
public enum BetaSchedule: String, Sendable, CaseIterable {
  case linear
  case scaledLinear = "scaled_linear"
  case squaredCosine = "squaredcos_cap_v2"
}

/// How the steps of a run are spread over the training timesteps (table 2 of Lin et al., "Common Diffusion Noise
/// Schedules and Sample Steps are Flawed", 2023).
public enum TimestepSpacing: String, Sendable, CaseIterable {
  case linspace, leading, trailing
}

/// The noise levels that a diffusion model was trained with, and the ways to choose some of them for a run.
public struct NoiseSchedule: Sendable, Equatable {
  /// How a sampler's reference computes the levels.
  enum Form {
    /// Single precision; zero terminal SNR leaves no signal at the last timestep.
    case discrete
    /// Single precision; zero terminal SNR keeps 2⁻²⁴ of the signal, so that the last level is finite.
    case solver
    /// CogVideoX: a shifted signal-to-noise ratio, double precision where the betas are scaled-linear.
    case cogVideoX
  }

  /// The signal's share of the variance, `ᾱ`, of every training timestep.
  public let alphasCumprod: [Double]

  /// Number of training timesteps.
  public var count: Int { alphasCumprod.count }

  /// Reads the part of a parsed `scheduler_config.json` that says how the model was trained.
  /// - Throws: `ConfigError` for values that give no usable levels.
  init(
    _ json: JSONValue, file: String, form: Form = .discrete, betaStart: Double = 0.0001,
    betaEnd: Double = 0.02, betaSchedule: BetaSchedule = .linear, snrShift: Double = 1
  ) throws(ConfigError) {
    let reader = try ConfigReader(json, file: file)
    let count = try reader.integer("num_train_timesteps", in: 2...10_000, default: 1000)
    let start = try reader.positive("beta_start", atMost: 1, default: betaStart)
    let end = try reader.positive("beta_end", atMost: 1, default: betaEnd)
    let schedule = try reader.choice("beta_schedule", default: betaSchedule)
    let trained = reader.isNull("trained_betas") ? nil : try reader.numbers("trained_betas", count: count)
    let shift = try reader.positive("snr_shift_scale", atMost: 1000, default: snrShift)
    let zeroSNR = try reader.bool("rescale_betas_zero_snr", default: false)

    var levels: [Double]
    if form == .cogVideoX && schedule == .scaledLinear && trained == nil {
      let betas = Self.linspace(start.squareRoot(), end.squareRoot(), count).map { $0 * $0 }
      levels = Self.cumulative(betas, shift: shift, zeroSNR: zeroSNR, form)
    } else {
      let betas: [Float] =
        switch schedule {
        case _ where trained != nil: (trained ?? []).map { Float($0) }
        case .linear: Self.singleLinspace(Float(start), Float(end), count)
        case .scaledLinear:
          Self.singleLinspace(Float(start.squareRoot()), Float(end.squareRoot()), count).map { $0 * $0 }
        case .squaredCosine: Self.squaredCosineBetas(count)
        }
      levels = Self.cumulative(betas, shift: shift, zeroSNR: zeroSNR, form).map(Double.init)
    }
    if zeroSNR && form == .solver { levels[count - 1] = 0x1p-24 }
    for (timestep, level) in levels.enumerated() where !(level > 0 && level < 1) {
      // Without signal only the last timestep may be, and only when that was asked for.
      if zeroSNR && timestep == count - 1 && level == 0 { continue }
      let key = trained == nil ? "beta_schedule" : "trained_betas"
      throw reader.invalid(
        key, "leaves timestep \(timestep) with the signal share \(level), not between 0 and 1")
    }
    alphasCumprod = levels
  }

  // MARK: - Levels

  /// `ᾱ` from betas, in the precision of the betas.
  private static func cumulative<T: BinaryFloatingPoint>(
    _ betas: [T], shift: Double, zeroSNR: Bool, _ form: Form
  ) -> [T] {
    var alphas = betas.map { 1 - $0 }
    var levels = product(alphas)
    if form == .cogVideoX || shift != 1 {
      levels = levels.map { $0 / (T(shift) + (1 - T(shift)) * $0) }
      return zeroSNR ? rescaled(levels) : levels
    }
    guard zeroSNR else { return levels }
    // The reference goes back to betas and multiplies anew.
    levels = rescaled(levels)
    alphas = [levels[0]] + zip(levels.dropFirst(), levels).map { $0 / $1 }
    return product(alphas.map { 1 - (1 - $0) })
  }

  /// Running product; like torch's it accumulates in double precision.
  private static func product<T: BinaryFloatingPoint>(_ factors: [T]) -> [T] {
    var product = 1.0
    return factors.map {
      product *= Double($0)
      return T(product)
    }
  }

  /// Shifts `√ᾱ` so that the last is 0 and the first stays (algorithm 1 of Lin et al., 2023).
  private static func rescaled<T: BinaryFloatingPoint>(_ levels: [T]) -> [T] {
    let roots = levels.map { $0.squareRoot() }
    guard let first = roots.first, let last = roots.last else { return [] }
    let scale = first / (first - last)
    return roots.map { root in
      let moved = (root - last) * scale
      return moved * moved
    }
  }

  /// Betas whose `ᾱ` is a squared cosine (Nichol and Dhariwal, 2021), capped at 0.999.
  private static func squaredCosineBetas(_ count: Int) -> [Float] {
    func level(_ share: Double) -> Double {
      let root = cos((share + 0.008) / 1.008 * .pi / 2)
      return root * root
    }
    return (0..<count).map { index in
      let (now, next) = (Double(index) / Double(count), Double(index + 1) / Double(count))
      return Float(min(1 - level(next) / level(now), 0.999))
    }
  }

  /// The noise-to-signal ratio `√((1 - ᾱ) / ᾱ)` of every training timestep, ascending.
  var sigmas: [Float] { alphasCumprod.map { ((1 - Float($0)) / Float($0)).squareRoot() } }

  // MARK: - Choosing levels for a run

  /// Timesteps of a run, descending.
  /// - Parameters:
  ///   - offset: added with leading spacing (`steps_offset`).
  ///   - withoutFirst: spread one step more and leave out the cleanest, as multistep solvers do.
  ///   - rounded: whether linear spacing keeps to whole timesteps.
  ///   - last: training timesteps to use, from 0; all by default.
  /// - Throws: `PipelineError.option` when there are no such timesteps.
  func timesteps(
    _ spacing: TimestepSpacing, steps: Int, offset: Int, withoutFirst: Bool = false, rounded: Bool = true,
    last: Int? = nil
  ) throws(PipelineError) -> [Double] {
    let last = last ?? count
    let points = withoutFirst ? steps + 1 : steps
    try checkSteps(
      steps, atMost: withoutFirst ? last - 1 : last, "the model was trained on \(last) timesteps")
    var result: [Double]
    switch spacing {
    case .linspace:
      result = Self.linspace(0, Double(last - 1), points)
      if rounded { result = result.map { $0.rounded(.toNearestOrEven) } }
      result = result.reversed().dropLast(withoutFirst ? 1 : 0)
    case .leading:
      result = (0..<points).reversed().dropLast(withoutFirst ? 1 : 0)
        .map { Double($0 * (last / points) + offset) }
    case .trailing:
      let stride = Double(count) / Double(steps)
      // numpy takes the difference of its first two values as the step.
      let step = Double(last) - (Double(last) - stride)
      result = (0..<steps).map { Double(last) - Double($0) * step }.filter { $0 > 0 }
        .map { $0.rounded(.toNearestOrEven) - 1 }
    }
    guard let highest = result.first, let lowest = result.last, highest < Double(count), lowest >= 0 else {
      throw .option(
        name: "steps", value: "\(steps)", reason: "gives timesteps outside 0…\(count - 1) with this schedule")
    }
    return result
  }

  /// The level at a timestep between whole ones.
  func sigma(at timestep: Double, of sigmas: [Float]) -> Double {
    let low = max(0, min(Int(timestep), sigmas.count - 1))
    guard low + 1 < sigmas.count else { return Double(sigmas[low]) }
    let (a, b) = (Double(sigmas[low]), Double(sigmas[low + 1]))
    return (b - a) * (timestep - Double(low)) + a
  }

  /// The timestep, between whole ones, of a level.
  func timestep(ofSigma sigma: Double, of sigmas: [Float]) -> Double {
    let wanted = log(max(sigma, 1e-10))
    let logs = sigmas.map { logf($0) }
    let low = max(0, min((logs.lastIndex { Double($0) <= wanted }) ?? 0, logs.count - 2))
    let share = (Double(logs[low]) - wanted) / Double(logs[low] - logs[low + 1])
    let weight = max(0, min(1, share))
    return (1 - weight) * Double(low) + weight * Double(low + 1)
  }

  /// Levels from `high` down to `low`, evenly spaced in `σ^(1/7)` (Karras et al., 2022, equation 5).
  static func karras(high: Double, low: Double, _ steps: Int) -> [Double] {
    let (top, bottom) = (pow(high, 1.0 / 7), pow(low, 1.0 / 7))
    return linspace(0, 1, steps).map { pow(top + $0 * (bottom - top), 7) }
  }

  /// Levels from `high` down to `low`, evenly spaced in `log σ`.
  static func exponential(high: Double, low: Double, _ steps: Int) -> [Double] {
    linspace(log(high), log(low), steps).map { exp($0) }
  }

  // MARK: - Flows

  /// The level of a flow that a share of the schedule shifts to.
  static func shifted(_ share: Double, by shift: Double) -> Double {
    shift * share / (1 + (shift - 1) * share)
  }

  /// The levels of a flow that `strength` (0…1] leaves: `max(1, round(steps · strength))` equal steps of the share
  /// from `strength` down, so that the level follows the knob continuously.
  static func flowSigmas(shift: Double, steps: Int, strength: Float) -> [Double] {
    let share = Double(max(0, min(1, strength)))
    let count = max(1, Int((Double(steps) * share).rounded()))
    return (0..<count).map { shifted(share * (1 - Double($0) / Double(count)), by: shift) }
  }

  // MARK: - Even spacing

  /// `count` numbers from `first` to `last`, both included (numpy's `linspace`).
  static func linspace(_ first: Double, _ last: Double, _ count: Int) -> [Double] {
    guard count > 1 else { return count == 1 ? [first] : [] }
    let step = (last - first) / Double(count - 1)
    return (0..<count).map { $0 == count - 1 ? last : Double($0) * step + first }
  }

  /// The same in single precision, from both ends to the middle (torch's `linspace`).
  private static func singleLinspace(_ first: Float, _ last: Float, _ count: Int) -> [Float] {
    let step = (last - first) / Float(count - 1)
    return (0..<count).map {
      $0 < count / 2 ? first + step * Float($0) : last - step * Float(count - 1 - $0)
    }
  }
}
