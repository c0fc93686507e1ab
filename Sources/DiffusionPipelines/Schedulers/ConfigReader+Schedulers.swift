import DiffusionModels

extension ConfigReader {
  /// One of an enum's values by its name in the file.
  func choice<T: RawRepresentable & CaseIterable>(_ key: String, default fallback: T) throws(ConfigError) -> T
  where T.RawValue == String {
    if isNull(key) { return fallback }
    let name = try string(key)
    if let value = T(rawValue: name) { return value }
    throw invalid(
      key, "is \"\(name)\"; supported are " + T.allCases.map { "\"\($0.rawValue)\"" }.joined(separator: ", "))
  }

  /// A number above 0 and at most `limit`.
  func positive(_ key: String, atMost limit: Double, default fallback: Double) throws(ConfigError) -> Double {
    let value = try number(key, default: fallback)
    guard value > 0, value <= limit else { throw invalid(key, "must be above 0 and at most \(limit)") }
    return value
  }

  /// Requires switches that change the result, and that a sampler does not have, to be off.
  func refuse(_ switches: [String], by sampler: String) throws(ConfigError) {
    for key in switches where try bool(key, default: false) {
      throw invalid(key, "is not supported by \(sampler)")
    }
  }

  /// Requires values that change the result, and that a sampler does not have, to be absent.
  func refuseValues(_ keys: [String], by sampler: String) throws(ConfigError) {
    for key in keys where !isNull(key) { throw invalid(key, "is not supported by \(sampler)") }
  }
}
