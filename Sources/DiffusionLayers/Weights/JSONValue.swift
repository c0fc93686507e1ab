/// A JSON value. Objects keep the order of their keys.
public enum JSONValue: Sendable, Equatable {
  case null
  case bool(Bool)
  /// A number written as an integer that fits 64 bits, exact.
  case integer(Int)
  /// Any other number.
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object(JSONObject)

  /// Reads one JSON text; Python's `-Infinity` counts as null. `file` only serves messages.
  public static func parse(_ bytes: [UInt8], file: String = "", maxDepth: Int = 64) throws(JSONError)
    -> JSONValue
  {
    var reader = JSONReader(bytes, maxDepth: maxDepth)
    do throws(JSONError) {
      let value = try read(&reader, file: file)
      try reader.end()
      return value
    } catch {
      var located = error
      located.file = file
      throw located
    }
  }

  /// Reads one JSON text.
  public static func parse(_ text: String, file: String = "") throws(JSONError) -> JSONValue {
    try parse(Array(text.utf8), file: file)
  }

  // The recursion is bounded by the reader's depth limit.
  private static func read(_ reader: inout JSONReader, file: String) throws(JSONError) -> JSONValue {
    switch try reader.peekKind() {
    case .null:
      try reader.null()
      return .null
    case .bool: return .bool(try reader.bool())
    case .string: return .string(try reader.string())
    case .number:
      if reader.takeNegativeInfinity() { return .null }
      let start = reader.position
      let (text, isInteger) = try reader.number()
      if isInteger, let value = Int(text) { return .integer(value) }
      guard let value = Double(text), value.isFinite else { throw JSONError(.badNumber, offset: start) }
      return .number(value)
    case .array:
      var elements: [JSONValue] = []
      try reader.beginArray()
      while try reader.nextElement() { elements.append(try read(&reader, file: file)) }
      return .array(elements)
    case .object:
      var object = JSONObject(file: file)
      try reader.beginObject()
      while let key = try reader.nextKey() {
        if object[key] != nil { throw JSONError(.duplicateKey(key), offset: reader.position) }
        object[key] = try read(&reader, file: file)
      }
      return .object(object)
    }
  }

  /// The value as an integer; a number such as 3.0 does not count.
  public var int: Int? { if case .integer(let value) = self { value } else { nil } }

  /// The value as a number.
  public var double: Double? {
    switch self {
    case .integer(let value): Double(value)
    case .number(let value): value
    default: nil
    }
  }

  public var string: String? { if case .string(let value) = self { value } else { nil } }
  public var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  public var array: [JSONValue]? { if case .array(let value) = self { value } else { nil } }
  public var object: JSONObject? { if case .object(let value) = self { value } else { nil } }

  /// What the value is, as messages say it.
  var kindName: String {
    switch self {
    case .null: "null"
    case .bool(let value): "\(value)"
    case .integer(let value): "the number \(value)"
    case .number(let value): "the number \(value)"
    case .string: "a string"
    case .array: "an array"
    case .object: "an object"
    }
  }
}

/// The members of a JSON object, in the order of the text; keys are unique.
///
/// The throwing accessors name the file and the key. With `default`, a missing key or `null` gives the
/// default.
public struct JSONObject: Sendable, Equatable, ExpressibleByDictionaryLiteral {
  /// The file the object was read from, for messages; may be empty.
  public let file: String
  public private(set) var keys: [String] = []
  private var values: [String: JSONValue] = [:]

  public init(file: String = "") { self.file = file }

  public init(dictionaryLiteral elements: (String, JSONValue)...) {
    self.init()
    for (key, value) in elements { self[key] = value }
  }

  public var count: Int { keys.count }

  public subscript(key: String) -> JSONValue? {
    get { values[key] }
    set {
      if let newValue {
        if values.updateValue(newValue, forKey: key) == nil { keys.append(key) }
      } else if values.removeValue(forKey: key) != nil {
        keys.removeAll { $0 == key }
      }
    }
  }

  /// Two objects are equal when they hold the same values under the same keys in the same order.
  public static func == (a: JSONObject, b: JSONObject) -> Bool { a.keys == b.keys && a.values == b.values }

  public func int(_ key: String, default fallback: Int? = nil) throws(JSONError) -> Int {
    try value(key, "an integer", fallback) { $0.int }
  }

  public func double(_ key: String, default fallback: Double? = nil) throws(JSONError) -> Double {
    try value(key, "a number", fallback) { $0.double }
  }

  public func string(_ key: String, default fallback: String? = nil) throws(JSONError) -> String {
    try value(key, "a string", fallback) { $0.string }
  }

  public func bool(_ key: String, default fallback: Bool? = nil) throws(JSONError) -> Bool {
    try value(key, "true or false", fallback) { $0.bool }
  }

  public func array(_ key: String, default fallback: [JSONValue]? = nil) throws(JSONError) -> [JSONValue] {
    try value(key, "an array", fallback) { $0.array }
  }

  public func object(_ key: String, default fallback: JSONObject? = nil) throws(JSONError) -> JSONObject {
    try value(key, "an object", fallback) { $0.object }
  }

  public func ints(_ key: String, default fallback: [Int]? = nil) throws(JSONError) -> [Int] {
    try value(key, "an array of integers", fallback) { Self.all($0) { $0.int } }
  }

  public func doubles(_ key: String, default fallback: [Double]? = nil) throws(JSONError) -> [Double] {
    try value(key, "an array of numbers", fallback) { Self.all($0) { $0.double } }
  }

  public func strings(_ key: String, default fallback: [String]? = nil) throws(JSONError) -> [String] {
    try value(key, "an array of strings", fallback) { Self.all($0) { $0.string } }
  }

  private func value<T>(
    _ key: String, _ expected: String, _ fallback: T?, _ convert: (JSONValue) -> T?
  ) throws(JSONError) -> T {
    guard let found = values[key] else {
      if let fallback { return fallback }
      throw JSONError(.missingKey(key), file: file)
    }
    if let value = convert(found) { return value }
    if found == .null, let fallback { return fallback }
    throw JSONError(.wrongType(key: key, expected: expected, found: found.kindName), file: file)
  }

  private static func all<T>(_ value: JSONValue, _ convert: (JSONValue) -> T?) -> [T]? {
    guard let elements = value.array else { return nil }
    let converted = elements.compactMap(convert)
    return converted.count == elements.count ? converted : nil
  }
}
