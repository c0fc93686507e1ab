import DiffusionLayers
import Testing

@Suite struct JSONTests {
  @Test(
    arguments: [
      ("null", JSONValue.null), (" true ", true), ("false", false), ("0", 0), ("-12", -12),
      ("9223372036854775807", .integer(.max)), ("9223372036854775808", .number(9_223_372_036_854_775_808)),
      ("1000000000000000019884624838656", .number(1e30)), ("1.5", 1.5), ("-0.25e2", -25.0), ("1E3", 1000.0),
      ("\"\"", ""), (#""a\"\\\/\b\f\n\r\tz""#, "a\"\\/\u{8}\u{c}\n\r\tz"), (#""\u00e9\ud83d\ude00""#, "é😀"),
      ("\"é😀\"", "é😀"), ("[]", []), ("[1, [2], {}]", [1, [2], [:]]),
      ("{\"b\": 1, \"a\": [true, null]}", ["b": 1, "a": [true, nil]]),
    ] as [(String, JSONValue)])
  func reads(text: String, value: JSONValue) throws {
    #expect(try JSONValue.parse(text) == value)
  }

  @Test(
    arguments: [
      ("", .unexpectedEnd), ("  ", .unexpectedEnd), ("[1", .unexpectedEnd), ("{\"a\"", .unexpectedEnd),
      ("\"abc", .unexpectedEnd), ("tru", .unexpectedEnd), ("-", .unexpectedEnd), ("\"\\u12", .unexpectedEnd),
      ("nul!", .unexpectedByte(33, expected: "'null'")), ("[1,]", .unexpectedByte(93, expected: "a value")),
      ("[1 2]", .unexpectedByte(50, expected: "',' or ']'")),
      ("{\"a\":1,}", .unexpectedByte(125, expected: "a value")),
      ("{a:1}", .unexpectedByte(97, expected: "'\"'")),
      ("{\"a\" 1}", .unexpectedByte(49, expected: "':'")), ("NaN", .unexpectedByte(78, expected: "a value")),
      ("+1", .unexpectedByte(43, expected: "a value")), ("/*x*/1", .unexpectedByte(47, expected: "a value")),
      ("[1}", .unexpectedByte(125, expected: "',' or ']'")), ("01", .badNumber), ("1.", .badNumber),
      (".5", .unexpectedByte(46, expected: "a value")), ("1e", .badNumber), ("1e+", .badNumber),
      ("1e999", .badNumber), ("-x", .badNumber), ("1 2", .trailingData), ("{} {}", .trailingData),
      ("\"a\u{1}\"", .controlCharacter), (#""\x""#, .badEscape), (#""\u00g0""#, .badEscape),
      (#""\ud800""#, .badEscape), (#""\ud800\u0041""#, .badEscape), (#""\udc00""#, .badEscape),
      (#"{"a":1,"a":2}"#, .duplicateKey("a")), (#"{"a":1,"\u0061":2}"#, .duplicateKey("a")),
    ] as [(String, JSONError.Reason)])
  func refuses(text: String, reason: JSONError.Reason) {
    let error = #expect(throws: JSONError.self) { try JSONValue.parse(text, file: "c.json") }
    #expect(error?.reason == reason)
    #expect(error?.description.hasPrefix("c.json: ") == true)
  }

  @Test(
    arguments: [[0x22, 0xff, 0x22], [0x22, 0xc0, 0x80, 0x22], [0x22, 0xed, 0xa0, 0x80, 0x22]] as [[UInt8]])
  func refusesInvalidUTF8(bytes: [UInt8]) {
    let error = #expect(throws: JSONError.self) { try JSONValue.parse(bytes) }
    #expect(error?.reason == .invalidUTF8)
  }

  @Test func limitsTheDepth() throws {
    let deep = String(repeating: "[", count: 65)
    let error = #expect(throws: JSONError.self) { try JSONValue.parse(deep) }
    #expect(error?.reason == .tooDeep(limit: 64))
    let allowed = String(repeating: "[", count: 64) + String(repeating: "]", count: 64)
    #expect(throws: Never.self) { try JSONValue.parse(allowed) }
    // A million levels must be refused, not overflow the stack.
    #expect(throws: JSONError.self) { try JSONValue.parse([UInt8](repeating: 0x5b, count: 1_000_000)) }
  }

  @Test func accessorsNameTheKey() throws {
    let text =
      #"{"n": 3, "x": 1.5, "s": "t", "l": [1, 2], "m": [1, "2"], "z": null, "b": true, "o": {"k": "v"}}"#
    let object = try #require(try JSONValue.parse(text, file: "config.json").object)
    #expect(try object.int("n") == 3)
    #expect(try object.double("n") == 3)
    #expect(try object.double("x") == 1.5)
    #expect(try object.string("s") == "t")
    #expect(try object.ints("l") == [1, 2])
    #expect(try object.bool("b"))
    #expect(try object.object("o").string("k") == "v")
    #expect(try object.int("absent", default: 7) == 7)
    #expect(try object.int("z", default: 8) == 8)
    #expect(object.keys == ["n", "x", "s", "l", "m", "z", "b", "o"])
    #expect(throws: JSONError(.missingKey("absent"), file: "config.json")) { try object.int("absent") }
    #expect(
      throws: JSONError(
        .wrongType(key: "x", expected: "an integer", found: "the number 1.5"), file: "config.json")
    ) {
      try object.int("x")
    }
    #expect(
      throws: JSONError(.wrongType(key: "z", expected: "an integer", found: "null"), file: "config.json")
    ) {
      try object.int("z")
    }
    let error = #expect(throws: JSONError.self) { try object.ints("m") }
    #expect(error?.description == "config.json: the key 'm' must be an array of integers, found an array")
  }

  @Test func writesWhatItReads() throws {
    let value: JSONValue = [
      "quote\"\\": "tab\tnewline\nbell\u{7}é", "numbers": [1, -2, 0.5, 1e300, 1e-7], "empty": [:],
      "none": nil,
      "nested": [["a": true], []],
    ]
    #expect(try JSONValue.parse(value.serialized()) == value)
    #expect(try JSONValue.parse(value.serialized(pretty: true)) == value)
    #expect(value.description.contains(#""quote\"\\": "tab\tnewline\nbell\u0007é""#))
    #expect(JSONValue.number(.nan).description == "null")
    let small: JSONValue = ["a": [1, 2]]
    #expect(small.serialized(pretty: true) == "{\n  \"a\": [\n    1,\n    2\n  ]\n}")
  }
}
