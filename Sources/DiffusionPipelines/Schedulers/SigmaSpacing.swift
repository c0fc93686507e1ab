import DiffusionModels

/// How the levels of a run are spread between the highest and the lowest.
public struct SigmaSpacing: Sendable, Equatable {
  public enum Kind: Sendable, Equatable {
    /// At the run's timesteps.
    case timesteps
    case karras, exponential
  }

  public let kind: Kind
  /// Bounds in place of the schedule's own (`sigma_min`, `sigma_max`).
  public let lowest: Double?
  public let highest: Double?

  /// - Throws: `ConfigError` when two kinds are asked for at once.
  init(_ reader: ConfigReader) throws(ConfigError) {
    let karras = try reader.bool("use_karras_sigmas", default: false)
    let exponential = try reader.bool("use_exponential_sigmas", default: false)
    guard !(karras && exponential) else {
      throw reader.invalid("use_exponential_sigmas", "excludes use_karras_sigmas")
    }
    kind = karras ? .karras : exponential ? .exponential : .timesteps
    lowest =
      reader.isNull("sigma_min") || kind == .timesteps
      ? nil : try reader.positive("sigma_min", atMost: 1e6, default: 1)
    highest =
      reader.isNull("sigma_max") || kind == .timesteps
      ? nil : try reader.positive("sigma_max", atMost: 1e6, default: 1)
  }

  /// Levels from the highest to the lowest; nil where the timesteps decide.
  func spaced(high: Double, low: Double, _ steps: Int) -> [Double]? {
    switch kind {
    case .timesteps: nil
    case .karras: NoiseSchedule.karras(high: highest ?? high, low: lowest ?? low, steps)
    case .exponential: NoiseSchedule.exponential(high: highest ?? high, low: lowest ?? low, steps)
    }
  }
}
