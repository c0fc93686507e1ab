import DiffusionLayers
import Testing

/// Every way a safetensors header can be wrong has its own error.
@Suite struct SafetensorsRejectionTests {
  private static func entry(_ fields: String, name: String = "t") -> String { "{\"\(name)\":{\(fields)}}" }

  private static func tensor(dtype: String = "F32", shape: String = "[1]", offsets: String = "[0,4]")
    -> String
  {
    entry("\"dtype\":\"\(dtype)\",\"shape\":\(shape),\"data_offsets\":\(offsets)")
  }

  private static let two =
    #"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":"#

  @Test(
    arguments: [
      (
        crafted(tensor(dtype: "F8_E4M3", shape: "[4]"), data: 4),
        .unknownDType(file: "f", tensor: "t", found: "F8_E4M3")
      ),
      (crafted(tensor(dtype: "f32"), data: 4), .unknownDType(file: "f", tensor: "t", found: "f32")),
      (
        crafted(tensor(shape: "[1,1,1,1,1,1,1,1,1]"), data: 4),
        .rankTooLarge(file: "f", tensor: "t", limit: 8)
      ),
      (crafted(tensor(shape: "[-1]"), data: 4), .badNumber(file: "f", tensor: "t", field: "shape")),
      (crafted(tensor(shape: "[1.0]"), data: 4), .badNumber(file: "f", tensor: "t", field: "shape")),
      (crafted(tensor(shape: "[1e0]"), data: 4), .badNumber(file: "f", tensor: "t", field: "shape")),
      (crafted(tensor(shape: "[\"1\"]"), data: 4), .badNumber(file: "f", tensor: "t", field: "shape")),
      (crafted(tensor(shape: "1"), data: 4), .badNumber(file: "f", tensor: "t", field: "shape")),
      (crafted(tensor(shape: "[[1]]"), data: 4), .badNumber(file: "f", tensor: "t", field: "shape")),
      (
        crafted(tensor(shape: "[9223372036854775808]"), data: 4),
        .badNumber(file: "f", tensor: "t", field: "shape")
      ),
      (
        crafted(tensor(shape: "[4611686018427387904]"), data: 4),
        .shapeOverflow(file: "f", tensor: "t", shape: [4_611_686_018_427_387_904])
      ),
      (
        crafted(tensor(shape: "[4294967296,0,4294967296]", offsets: "[0,0]")),
        .shapeOverflow(file: "f", tensor: "t", shape: [4_294_967_296, 0, 4_294_967_296])
      ),
      (crafted(tensor(offsets: "[4,0]"), data: 4), .offsets(file: "f", tensor: "t", begin: 4, end: 0)),
      (crafted(tensor(offsets: "[0]"), data: 4), .offsetCount(file: "f", tensor: "t")),
      (crafted(tensor(offsets: "[0,4,8]"), data: 4), .offsetCount(file: "f", tensor: "t")),
      (
        crafted(tensor(offsets: "[0,-4]"), data: 4), .badNumber(file: "f", tensor: "t", field: "data_offsets")
      ),
      (
        crafted(tensor(offsets: "[0,8]"), data: 8),
        .sizeMismatch(file: "f", tensor: "t", expected: 4, found: 8)
      ),
      (crafted(tensor(), data: 3), .beyondEnd(file: "f", tensor: "t", end: 4, available: 3)),
      (
        crafted(tensor(shape: "[2000000000000000000]", offsets: "[0,8000000000000000000]"), data: 3),
        .beyondEnd(file: "f", tensor: "t", end: 8_000_000_000_000_000_000, available: 3)
      ),
      (crafted(two + "[2,6]}}", data: 6), .overlap(file: "f", tensor: "b")),
      (crafted(two + "[0,4]}}", data: 4), .overlap(file: "f", tensor: "b")),
      (crafted(two + "[6,10]}}", data: 10), .hole(file: "f", tensor: "b", bytes: 2)),
      (crafted(tensor(offsets: "[1,5]"), data: 5), .hole(file: "f", tensor: "t", bytes: 1)),
      (crafted(tensor(), data: 6), .unusedTail(file: "f", bytes: 2)),
      (crafted("{}", data: 6), .unusedTail(file: "f", bytes: 6)),
    ] as [([UInt8], WeightsError)])
  func refusesTensors(bytes: [UInt8], error: WeightsError) {
    #expect(throws: error) { try SafetensorsFile(source: memory(bytes)) }
  }

  @Test(
    arguments: [
      (
        entry(#""dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1"#),
        .unknownField(file: "f", tensor: "t", field: "x")
      ),
      (entry(#""shape":[1],"data_offsets":[0,4]"#), .missingField(file: "f", tensor: "t", field: "dtype")),
      (entry(#""dtype":"F32","data_offsets":[0,4]"#), .missingField(file: "f", tensor: "t", field: "shape")),
      (entry(#""dtype":"F32","shape":[1]"#), .missingField(file: "f", tensor: "t", field: "data_offsets")),
      (entry(#""dtype":"F32","dtype":"F32""#), .duplicateTensor(file: "f", name: "t.dtype")),
      (entry(#""shape":[1],"shape":[1]"#), .duplicateTensor(file: "f", name: "t.shape")),
      (#"{"__metadata__":{"k":1}}"#, .metadata(file: "f", key: "k")),
      (#"{"__metadata__":{"k":null}}"#, .metadata(file: "f", key: "k")),
      (#"{"__metadata__":{"k":"1","k":"2"}}"#, .duplicateTensor(file: "f", name: "__metadata__.k")),
      (#"{"__metadata__":{},"__metadata__":{}}"#, .duplicateTensor(file: "f", name: "__metadata__")),
      (entry("", name: ""), .nameEmpty(file: "f")),
      (entry("", name: #"a\u0000b"#), .nameControlCharacter(file: "f", name: "a\0b")),
      (entry("", name: #"a\nb"#), .nameControlCharacter(file: "f", name: "a\nb")),
      (entry("", name: "a\u{7f}"), .nameControlCharacter(file: "f", name: "a\u{7f}")),
      (entry("", name: "a\u{85}"), .nameControlCharacter(file: "f", name: "a\u{85}")),
      (
        entry("", name: String(repeating: "n", count: 1025)),
        .nameTooLong(file: "f", bytes: 1025, limit: 1024)
      ),
      ("{}x", .headerTrailing(file: "f")), ("{}\n", .headerTrailing(file: "f")),
      ("{}\0", .headerTrailing(file: "f")),
    ] as [(String, WeightsError)])
  func refusesHeaderContent(header: String, error: WeightsError) {
    #expect(throws: error) { try SafetensorsFile(source: memory(crafted(header))) }
  }

  @Test func refusesDuplicateTensors() {
    let one = #""t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#
    #expect(throws: WeightsError.duplicateTensor(file: "f", name: "t")) {
      try SafetensorsFile(source: memory(crafted("{\(one),\(one)}", data: 1)))
    }
  }

  @Test(arguments: [
    (#"{"t":{"dtype":["F32"]}}"#, "'\"'"), (#"{"t":[]}"#, "'{'"), (#"{"t":1}"#, "'{'"),
    (#"{"__metadata__":[]}"#, "'{'"), (#"{"t":{"shape":[1,]}}"#, "a value"), (#"{"t" "#, "ends too early"),
    ("{\"t\u{1}\":1}", "control character"),
  ])
  func refusesMalformedHeaders(header: String, message: String) {
    let error = #expect(throws: WeightsError.self) {
      try SafetensorsFile(source: memory(crafted(header)))
    }
    guard case .header(let reason)? = error else {
      Issue.record("expected a header error, got \(String(describing: error))")
      return
    }
    #expect(reason.file == "f")
    #expect(error?.description.contains(message) == true)
  }

  @Test func refusesDeepHeaders() {
    let error = #expect(throws: WeightsError.self) {
      try SafetensorsFile(source: memory(crafted(#"{"t":{"dtype":{"a":{"#)))
    }
    guard case .header? = error else {
      Issue.record("expected a header error, got \(String(describing: error))")
      return
    }
  }

  @Test func refusesInvalidUTF8() {
    let header = Array("{\"".utf8) + [0xc3, 0x28] + Array("\":{}}".utf8)
    let error = #expect(throws: WeightsError.self) {
      try SafetensorsFile(source: memory(crafted(header, data: [])))
    }
    guard case .header(let reason)? = error else {
      Issue.record("expected a header error, got \(String(describing: error))")
      return
    }
    #expect(reason.reason == .invalidUTF8)
  }

  @Test(
    arguments: [
      ([], .tooSmall(file: "f", bytes: 0)), ([2, 0, 0, 0, 0, 0, 0, 0, 0x7b], .tooSmall(file: "f", bytes: 9)),
      (littleEndian(UInt64(0)) + Array("{}".utf8), .headerEmpty(file: "f", length: 0)),
      (littleEndian(UInt64(1)) + Array("{}".utf8), .headerEmpty(file: "f", length: 1)),
      (
        littleEndian(UInt64(100_000_001)) + Array("{}".utf8),
        .headerTooLarge(file: "f", length: 100_000_001, limit: 100_000_000)
      ),
      (
        littleEndian(UInt64.max) + Array("{}".utf8),
        .headerTooLarge(file: "f", length: .max, limit: 100_000_000)
      ),
      (
        littleEndian(UInt64(100_000_000)) + Array("{}".utf8),
        .headerBeyondFile(file: "f", length: 100_000_000, available: 2)
      ),
      (littleEndian(UInt64(3)) + Array("{}".utf8), .headerBeyondFile(file: "f", length: 3, available: 2)),
      (littleEndian(UInt64(2)) + Array(" {}".utf8), .headerStart(file: "f", byte: 0x20)),
      (littleEndian(UInt64(2)) + Array("[]".utf8), .headerStart(file: "f", byte: 0x5b)),
    ] as [([UInt8], WeightsError)])
  func refusesBadLengths(bytes: [UInt8], error: WeightsError) {
    #expect(throws: error) { try SafetensorsFile(source: memory(bytes)) }
  }

  @Test func refusesTooManyTensors() {
    let entry = #":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#
    let header = "{" + (0...100_000).map { "\"\($0)\"\(entry)" }.joined(separator: ",") + "}"
    #expect(throws: WeightsError.tooManyTensors(file: "f", limit: 100_000)) {
      try SafetensorsFile(source: memory(crafted(header)))
    }
  }

  @Test(
    arguments: [
      ([0x50, 0x4b, 3, 4] + Array("............archive/data.pkl".utf8), .torchZip),
      ([0x50, 0x4b, 3, 4] + Array("............picture.png".utf8), .zip),
      ([0x80, 2, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20], .torchPickle),
      ([0x80, 4, 0x95, 0, 0, 0, 0, 0, 0, 0, 0, 0], .torchPickle),
      (Array("version https://git-lfs.github.com/spec/v1\noid sha256:0".utf8), .gitLFSPointer),
      (Array("\n<!DOCTYPE html><html>".utf8), .html), (Array("<HTML><body>".utf8), .html),
      (Array("{\"error\": \"Invalid username\"}".utf8), .json),
      (Array("GGUF\u{3}\0\0\0\0\0\0\0".utf8), .gguf),
      ([0x89] + Array("HDF\r\n\u{1a}\n....".utf8), .hdf5), ([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0], .gzip),
      ([0x93] + Array("NUMPY\u{1}\0....".utf8), .numpy),
      ([0xff, 0xd8, 0xff, 0xe0, 0, 0, 0, 0, 0, 0], .image),
    ] as [([UInt8], ForeignFormat)])
  func namesForeignFormats(bytes: [UInt8], format: ForeignFormat) {
    let error = #expect(throws: WeightsError.self) { try SafetensorsFile(source: memory(bytes)) }
    #expect(error == .foreign(file: "f", format: format))
    #expect(error?.description.contains(format.name) == true)
    if format == .torchZip || format == .torchPickle {
      #expect(error?.description.contains("videolora import FILE --output FILE.safetensors") == true)
    }
  }

  @Test func acceptsPaddingAndEmptyTensors() throws {
    let header =
      #"{"e":{"dtype":"F32","shape":[0,3],"data_offsets":[0,0]},"t":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}   "#
    let file = try SafetensorsFile(source: memory(crafted(header, data: 1)))
    #expect(file.names == ["e", "t"])
    #expect(throws: WeightsError.empty(file: "f", tensor: "e")) { try file.load("e") }
  }
}
