// A strict pull reader for JSON text, after RFC 8259 with nothing added: no comments, no trailing commas, no
// NaN; `takeNegativeInfinity` is for who expects Python's word.
//
// It never recurses and allocates only the strings it hands out, so that a hostile file costs what its bytes
// cost.

/// A fault in JSON text, or in a value found there; `description` is one sentence.
public struct JSONError: Error, Equatable, CustomStringConvertible {
  /// What is wrong.
  public enum Reason: Equatable, Sendable {
    case unexpectedEnd
    case unexpectedByte(UInt8, expected: String)
    case invalidUTF8
    case controlCharacter
    case badEscape
    case badNumber
    case notAnUnsignedInteger
    case tooDeep(limit: Int)
    case duplicateKey(String)
    case trailingData
    case missingKey(String)
    case wrongType(key: String, expected: String, found: String)
  }

  /// The file read, or an empty string.
  public var file: String
  public let reason: Reason
  /// Byte offset in the text, or nil when the text was well formed.
  public let offset: Int?

  public init(_ reason: Reason, file: String = "", offset: Int? = nil) {
    self.file = file
    self.reason = reason
    self.offset = offset
  }

  public var description: String { sentence.printable }

  private var sentence: String {
    let place = file.isEmpty ? "" : "\(file): "
    let at = offset.map { " at byte \($0)" } ?? ""
    switch reason {
    case .unexpectedEnd: return "\(place)the JSON text ends too early\(at)"
    case .unexpectedByte(let byte, let expected):
      let found = (0x21...0x7e).contains(byte) ? "'\(Character(UnicodeScalar(byte)))'" : "byte \(byte)"
      return "\(place)not valid JSON\(at): found \(found) where \(expected) must stand"
    case .invalidUTF8: return "\(place)a JSON string is not valid UTF-8\(at)"
    case .controlCharacter: return "\(place)a JSON string holds a raw control character\(at)"
    case .badEscape: return "\(place)a JSON string holds an invalid escape\(at)"
    case .badNumber: return "\(place)not a valid JSON number\(at)"
    case .notAnUnsignedInteger:
      return "\(place)expected a whole number from 0 to \(Int.max) in plain digits\(at)"
    case .tooDeep(let limit): return "\(place)JSON nested deeper than \(limit) levels\(at)"
    case .duplicateKey(let key): return "\(place)the JSON key '\(key)' stands twice in one object\(at)"
    case .trailingData: return "\(place)there is text after the end of the JSON value\(at)"
    case .missingKey(let key): return "\(place)the key '\(key)' is missing"
    case .wrongType(let key, let expected, let found):
      return "\(place)the key '\(key)' must be \(expected), found \(found)"
    }
  }
}

/// Reads JSON token by token: `beginObject`, then `nextKey` until it returns nil, one value after each key.
package struct JSONReader {
  package enum Kind { case null, bool, number, string, array, object }

  private let bytes: [UInt8]
  private let maxDepth: Int
  /// One entry per open array or object: whether a value has been read in it.
  private var open: [Bool] = []
  package private(set) var position = 0

  package init(_ bytes: [UInt8], maxDepth: Int = 64) {
    self.bytes = bytes
    self.maxDepth = maxDepth
  }

  // MARK: Structure

  /// Looks at the next value's first byte without consuming the value.
  package mutating func peekKind() throws(JSONError) -> Kind {
    switch try peek() {
    case UInt8(ascii: "{"): return .object
    case UInt8(ascii: "["): return .array
    case UInt8(ascii: "\""): return .string
    case UInt8(ascii: "t"), UInt8(ascii: "f"): return .bool
    case UInt8(ascii: "n"): return .null
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return .number
    case let byte: throw unexpected(byte, "a value")
    }
  }

  package mutating func beginObject() throws(JSONError) { try begin(UInt8(ascii: "{"), "'{'") }

  package mutating func beginArray() throws(JSONError) { try begin(UInt8(ascii: "["), "'['") }

  /// The next key of the open object, or nil when it closes.
  package mutating func nextKey() throws(JSONError) -> String? {
    guard try nextItem(close: UInt8(ascii: "}"), "',' or '}'") else { return nil }
    let key = try string()
    try expect(UInt8(ascii: ":"), "':'")
    return key
  }

  /// Whether the open array has another element; it closes when there is none.
  package mutating func nextElement() throws(JSONError) -> Bool {
    try nextItem(close: UInt8(ascii: "]"), "',' or ']'")
  }

  /// Requires that only white space is left.
  package mutating func end() throws(JSONError) {
    skipSpace()
    if position < bytes.count { throw error(.trailingData) }
  }

  // MARK: Values

  package mutating func null() throws(JSONError) { try literal("null") }

  /// Takes the word `-Infinity` if it comes next. It is no JSON, but Python writes it: diffusers into the
  /// configuration of every DPM-Solver, for a lower bound that is none.
  package mutating func takeNegativeInfinity() -> Bool {
    skipSpace()
    let word = Array("-Infinity".utf8)
    guard position + word.count <= bytes.count, bytes[position..<position + word.count].elementsEqual(word)
    else { return false }
    position += word.count
    return true
  }

  package mutating func bool() throws(JSONError) -> Bool {
    if try peek() == UInt8(ascii: "t") {
      try literal("true")
      return true
    }
    try literal("false")
    return false
  }

  /// A number's own text, checked against the grammar, and whether it is written as an integer.
  package mutating func number() throws(JSONError) -> (text: String, isInteger: Bool) {
    skipSpace()
    let start = position
    if byte(at: position) == UInt8(ascii: "-") { position += 1 }
    guard let first = byte(at: position) else { throw error(.unexpectedEnd) }
    if first == UInt8(ascii: "0") {
      position += 1
    } else if skipDigits() == 0 {
      throw error(.badNumber)
    }
    var isInteger = true
    if byte(at: position) == UInt8(ascii: ".") {
      isInteger = false
      position += 1
      if skipDigits() == 0 { throw error(.badNumber) }
    }
    if let mark = byte(at: position), mark | 0x20 == UInt8(ascii: "e") {
      isInteger = false
      position += 1
      if let sign = byte(at: position), sign == UInt8(ascii: "+") || sign == UInt8(ascii: "-") {
        position += 1
      }
      if skipDigits() == 0 { throw error(.badNumber) }
    }
    if let next = byte(at: position), isDigit(next) { throw error(.badNumber) }  // a leading zero
    return (String(decoding: bytes[start..<position], as: UTF8.self), isInteger)
  }

  /// A whole number in plain digits: no sign, fraction or exponent, and no overflow.
  package mutating func unsignedInteger() throws(JSONError) -> Int {
    guard try peekKind() == .number else { throw error(.notAnUnsignedInteger) }
    let start = position
    let (text, isInteger) = try number()
    guard isInteger, bytes[start] != UInt8(ascii: "-"), let value = Int(text) else {
      throw JSONError(.notAnUnsignedInteger, offset: start)
    }
    return value
  }

  package mutating func string() throws(JSONError) -> String {
    try expect(UInt8(ascii: "\""), "'\"'")
    let start = position
    while let byte = byte(at: position), byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\"), byte >= 0x20
    {
      position += 1
    }
    var text = Array(bytes[start..<position])
    while true {
      guard let byte = byte(at: position) else { throw error(.unexpectedEnd) }
      if byte == UInt8(ascii: "\"") { break }
      if byte < 0x20 { throw error(.controlCharacter) }
      position += 1
      if byte == UInt8(ascii: "\\") {
        text.append(contentsOf: String(try escape()).utf8)
      } else {
        text.append(byte)
      }
    }
    position += 1
    guard let result = String(validating: text, as: UTF8.self) else {
      throw JSONError(.invalidUTF8, offset: start)
    }
    return result
  }

  // MARK: Steps

  private mutating func begin(_ byte: UInt8, _ expected: String) throws(JSONError) {
    try expect(byte, expected)
    if open.count >= maxDepth { throw error(.tooDeep(limit: maxDepth)) }
    open.append(false)
  }

  private mutating func nextItem(close: UInt8, _ expected: String) throws(JSONError) -> Bool {
    let byte = try peek()
    guard let hasItems = open.last else { throw unexpected(byte, "an open object or array") }
    if byte == close {
      position += 1
      open.removeLast()
      return false
    }
    if hasItems {
      try expect(UInt8(ascii: ","), expected)
      let next = try peek()
      if next == close { throw unexpected(next, "a value") }
    }
    open[open.count - 1] = true
    return true
  }

  private mutating func escape() throws(JSONError) -> UnicodeScalar {
    guard let mark = byte(at: position) else { throw error(.unexpectedEnd) }
    position += 1
    switch mark {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return UnicodeScalar(mark)
    case UInt8(ascii: "b"): return "\u{8}"
    case UInt8(ascii: "f"): return "\u{c}"
    case UInt8(ascii: "n"): return "\n"
    case UInt8(ascii: "r"): return "\r"
    case UInt8(ascii: "t"): return "\t"
    case UInt8(ascii: "u"): break
    default: throw error(.badEscape)
    }
    let first = try hexadecimal()
    if let scalar = UnicodeScalar(first) { return scalar }
    // A surrogate: only a high one followed by a low one makes a character.
    guard first < 0xdc00, byte(at: position) == UInt8(ascii: "\\"),
      byte(at: position + 1) == UInt8(ascii: "u")
    else { throw error(.badEscape) }
    position += 2
    let second = try hexadecimal()
    guard (0xdc00..<0xe000).contains(second),
      let scalar = UnicodeScalar(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))
    else { throw error(.badEscape) }
    return scalar
  }

  private mutating func hexadecimal() throws(JSONError) -> UInt32 {
    var value: UInt32 = 0
    for _ in 0..<4 {
      guard let byte = byte(at: position) else { throw error(.unexpectedEnd) }
      guard let digit = Character(UnicodeScalar(byte)).hexDigitValue, byte < 0x80 else {
        throw error(.badEscape)
      }
      value = value << 4 | UInt32(digit)
      position += 1
    }
    return value
  }

  private mutating func literal(_ word: StaticString) throws(JSONError) {
    skipSpace()
    for expected in String(describing: word).utf8 {
      guard let byte = byte(at: position) else { throw error(.unexpectedEnd) }
      if byte != expected { throw unexpected(byte, "'\(word)'") }
      position += 1
    }
  }

  private mutating func expect(_ byte: UInt8, _ name: String) throws(JSONError) {
    let found = try peek()
    if found != byte { throw unexpected(found, name) }
    position += 1
  }

  private mutating func peek() throws(JSONError) -> UInt8 {
    skipSpace()
    guard let byte = byte(at: position) else { throw error(.unexpectedEnd) }
    return byte
  }

  private mutating func skipSpace() {
    while let byte = byte(at: position), byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 {
      position += 1
    }
  }

  private mutating func skipDigits() -> Int {
    let start = position
    while let byte = byte(at: position), isDigit(byte) { position += 1 }
    return position - start
  }

  private func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }

  private func byte(at index: Int) -> UInt8? { index < bytes.count ? bytes[index] : nil }

  private func unexpected(_ byte: UInt8, _ expected: String) -> JSONError {
    error(.unexpectedByte(byte, expected: expected))
  }

  private func error(_ reason: JSONError.Reason) -> JSONError { JSONError(reason, offset: position) }
}
