extension JSONValue: CustomStringConvertible, ExpressibleByStringLiteral, ExpressibleByIntegerLiteral,
  ExpressibleByFloatLiteral, ExpressibleByBooleanLiteral, ExpressibleByArrayLiteral,
  ExpressibleByDictionaryLiteral, ExpressibleByNilLiteral
{
  public init(stringLiteral value: String) { self = .string(value) }
  public init(integerLiteral value: Int) { self = .integer(value) }
  public init(floatLiteral value: Double) { self = .number(value) }
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  public init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
  public init(nilLiteral: ()) { self = .null }
  public init(dictionaryLiteral elements: (String, JSONValue)...) {
    var object = JSONObject()
    for (key, value) in elements { object[key] = value }
    self = .object(object)
  }

  /// The value as one line of JSON.
  public var description: String { serialized() }

  /// The value as JSON text; `pretty` puts every member on its own line, indented by two spaces.
  ///
  /// JSON has no NaN and no infinity: such numbers are written as null.
  public func serialized(pretty: Bool = false) -> String {
    var text = ""
    write(to: &text, pretty: pretty, indent: "")
    return text
  }

  /// `text` with the quotes and escapes of a JSON string.
  public static func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      case "\t": result += "\\t"
      case "\u{0}"..."\u{1f}", "\u{7f}":
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }

  private func write(to text: inout String, pretty: Bool, indent: String) {
    let inner = indent + "  "
    func separate(_ isFirst: Bool) {
      if !isFirst { text += pretty ? "," : ", " }
      if pretty { text += "\n" + inner }
    }
    switch self {
    case .null: text += "null"
    case .bool(let value): text += value ? "true" : "false"
    case .integer(let value): text += "\(value)"
    case .number(let value): text += value.isFinite ? "\(value)" : "null"
    case .string(let value): text += Self.quoted(value)
    case .array(let elements):
      text += "["
      for (index, element) in elements.enumerated() {
        separate(index == 0)
        element.write(to: &text, pretty: pretty, indent: inner)
      }
      if pretty, !elements.isEmpty { text += "\n" + indent }
      text += "]"
    case .object(let object):
      text += "{"
      for (index, key) in object.keys.enumerated() {
        separate(index == 0)
        text += Self.quoted(key) + ": "
        (object[key] ?? .null).write(to: &text, pretty: pretty, indent: inner)
      }
      if pretty, object.count > 0 { text += "\n" + indent }
      text += "}"
    }
  }
}
