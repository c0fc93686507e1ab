public import DiffusionLayers

/// Why a model's configuration cannot be used; names file and key.
public struct ConfigError: Error, Equatable, CustomStringConvertible {
  public let file: String
  public let key: String
  public let reason: String

  public init(file: String, key: String, reason: String) {
    self.file = file
    self.key = key
    self.reason = reason
  }

  public var description: String { "'\(file)': '\(key)' \(reason)".printable }
}

/// Reads a configuration and checks every value against the range that the code can handle.
public struct ConfigReader: Sendable {
  let object: JSONObject
  let file: String

  /// - Throws: when `json` is no object.
  public init(_ json: JSONValue, file: String) throws(ConfigError) {
    guard let object = json.object else {
      throw ConfigError(file: file, key: "", reason: "is missing: the file holds no JSON object")
    }
    self.object = object
    self.file = file
  }

  /// Whether the key is absent or null.
  public func isNull(_ key: String) -> Bool { object[key] == nil || object[key] == .null }

  public func invalid(_ key: String, _ reason: String) -> ConfigError {
    ConfigError(file: file, key: key, reason: reason)
  }

  /// Requires a string value.
  public func expect(_ key: String, _ value: String, allowMissing: Bool = false) throws(ConfigError) {
    if allowMissing && isNull(key) { return }
    let found = try string(key)
    guard found == value else {
      throw invalid(key, "is \"\(found.prefix(64))\"; only \"\(value)\" is supported")
    }
  }

  public func string(_ key: String) throws(ConfigError) -> String {
    guard let value = object[key]?.string else { throw invalid(key, "must be a string") }
    return value
  }

  public func integer(_ key: String, in range: ClosedRange<Int>, default fallback: Int? = nil)
    throws(ConfigError)
    -> Int
  {
    if isNull(key), let fallback { return fallback }
    guard let value = object[key]?.int, range.contains(value) else {
      throw invalid(key, "must be a whole number from \(range.lowerBound) to \(range.upperBound)")
    }
    return value
  }

  public func integers(_ key: String, count: Int, in range: ClosedRange<Int>) throws(ConfigError) -> [Int] {
    guard let values = object[key]?.array?.compactMap(\.int), values.count == count,
      values.allSatisfy(range.contains)
    else {
      throw invalid(key, "must be \(count) whole numbers from \(range.lowerBound) to \(range.upperBound)")
    }
    return values
  }

  public func number(_ key: String, default fallback: Double? = nil) throws(ConfigError) -> Double {
    if isNull(key), let fallback { return fallback }
    guard let value = object[key]?.double, value.isFinite else { throw invalid(key, "must be a number") }
    return value
  }

  public func numbers(_ key: String, count: Int) throws(ConfigError) -> [Double] {
    guard let values = object[key]?.array?.compactMap(\.double), values.count == count,
      values.allSatisfy(\.isFinite)
    else { throw invalid(key, "must be \(count) numbers") }
    return values
  }

  public func bool(_ key: String, default fallback: Bool) throws(ConfigError) -> Bool {
    if isNull(key) { return fallback }
    guard let value = object[key]?.bool else { throw invalid(key, "must be true or false") }
    return value
  }
}
