import DiffusionLayers
import Glibc
import TensorCore
import TestSupport
import Testing

/// Files that torch.save wrote become the safetensors files that Python writes of the same tensors.
@Suite struct TorchCheckpointTests {
  private func imported(_ name: String) throws -> (TorchCheckpoint, SafetensorsFile) {
    let folder = TemporaryFolder()
    let checkpoint = try TorchCheckpoint(path: Fixture.path("pickles/" + name))
    let path = folder.path + "/out.safetensors"
    try checkpoint.write(to: path)
    return (checkpoint, try SafetensorsFile(path: path))
  }

  @Test(arguments: [
    ("zip.pt", "everything"), ("legacy.pt", "everything"), ("protocol4.pt", "everything"),
    ("wrapped.ckpt", "wrapped"), ("model.pth", "wrapped"), ("nested.bin", "nested"),
  ])
  func importsTheSameBytes(name: String, expected: String) throws {
    let (checkpoint, file) = try imported(name)
    let reference = try Fixture.safetensors("pickles/" + expected)
    #expect(file.names.sorted() == reference.names.sorted())
    #expect(
      checkpoint.byteCount == reference.names.reduce(0) { $0 + (reference.entries[$1]?.range.count ?? 0) })
    for tensor in reference.names {
      #expect(file.entries[tensor]?.dtype == reference.entries[tensor]?.dtype, "\(tensor)")
      #expect(file.entries[tensor]?.shape == reference.entries[tensor]?.shape, "\(tensor)")
      #expect(try file.bytes(tensor) == reference.bytes(tensor), "\(tensor)")
    }
  }

  @Test func keepsNumbersAndNamesTheRest() throws {
    let (checkpoint, file) = try imported("wrapped.ckpt")
    #expect(file.metadata("epoch") == "7")
    #expect(file.metadata("rate") == "0.5")
    #expect(file.metadata("note") == "α note")
    #expect(file.metadata("done") == "true")
    #expect(file.metadata("format") == "pt")
    #expect(checkpoint.leftOut == ["optimizer (a dict)"])
  }

  @Test func refusesCode() {
    let path = Fixture.path("pickles/code.pt")
    let error = #expect(throws: PickleError.self) { try TorchCheckpoint(path: path) }
    #expect(error == .global(file: path, name: "posix.system"))
  }

  @Test func refusesCompressedArchives() {
    let error = #expect(throws: PickleError.self) {
      try TorchCheckpoint(path: Fixture.path("pickles/deflated.pt"))
    }
    guard case .archive? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test func refusesOtherFiles() {
    #expect(throws: PickleError.notACheckpoint(file: "f")) {
      try TorchCheckpoint(source: memory(Array("{}".utf8)))
    }
    #expect(throws: PickleError.notACheckpoint(file: "f")) {  // a pickle, not torch's
      try TorchCheckpoint(source: memory([0x80, 2] + Array("K\u{1}.".utf8)))
    }
    #expect(throws: PickleError.file(.notFound(file: "/nonexistent"))) {
      try TorchCheckpoint(path: "/nonexistent")
    }
  }

  /// Every cut of a file is refused, and none of them traps.
  @Test(arguments: ["zip.pt", "legacy.pt"]) func refusesCutFiles(name: String) throws {
    let source = try ByteSource.open(Fixture.path("pickles/" + name))
    let bytes = try source.bytes(0..<source.count)
    for length in stride(from: 0, to: bytes.count - 1, by: 7) {
      #expect(throws: PickleError.self) { try TorchCheckpoint(source: memory(Array(bytes[..<length]))) }
    }
  }

  /// A pickle in the stream form around `body`, which leaves the object on the stack.
  private func stream(_ body: String, storages: [UInt8] = []) -> ByteSource {
    let magic: [UInt8] = [
      0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e,
    ]
    let head: [UInt8] =
      magic + [0x80, 2] + Array("M".utf8) + [0xe9, 3, 0x2e] + [0x80, 2] + Array("}.".utf8)
    return memory(head + [0x80, 2] + Array(body.utf8) + storages)
  }

  private let storage = "((S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI4\nN" + "tQ"

  private func tensor(offset: Int = 0, shape: String, strides: String) -> String {
    "(S'w'\nctorch._utils\n_rebuild_tensor_v2\n\(storage)I\(offset)\n(\(shape)t(\(strides)tI00\nNtRd."
  }

  private let data: [UInt8] =
    [0x80, 2] + Array("(S'0'\nl.".utf8) + littleEndian(Int64(4)) + [UInt8](repeating: 1, count: 16)

  @Test func readsTheStreamForm() throws {
    let checkpoint = try TorchCheckpoint(
      source: stream(tensor(shape: "I2\nI2\n", strides: "I1\nI2\n"), storages: data))
    #expect(checkpoint.entries.map(\.name) == ["w"])
    #expect(checkpoint.entries.map(\.shape) == [[2, 2]])
  }

  @Test(arguments: [
    (0, "I5\n", "I1\n"), (1, "I4\n", "I1\n"), (-1, "I1\n", "I1\n"), (0, "I-1\n", "I1\n"),
    (0, "I2\n", "I-1\n"),
    (0, "I4611686018427387904\nI4\n", "I0\nI0\n"), (0, "I2\n", "I4611686018427387904\n"),
    (9_223_372_036_854_775_807, "I2\n", "I1\n"), (0, "I3\nI3\n", "I1\nI1\n"), (4, "I1\n", "I1\n"),
  ])
  func refusesViewsOutsideTheirStorage(offset: Int, shape: String, strides: String) {
    let error = #expect(throws: PickleError.self) {
      try TorchCheckpoint(
        source: stream(tensor(offset: offset, shape: shape, strides: strides), storages: data))
    }
    guard case .view? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test func refusesExpansions() {
    let error = #expect(throws: PickleError.self) {
      try TorchCheckpoint(
        source: stream(tensor(shape: "I1000000\nI1000\n", strides: "I0\nI0\n"), storages: data))
    }
    guard case .expansion(_, 4_000_000_000, _)? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test(arguments: [
    // Cycles and nesting.
    "}q\u{0}S'a'\nh\u{0}s.",
    "]" + String(repeating: "]", count: 5000) + String(repeating: "a", count: 5000) + ".",
    // Stack and memo.
    ".", "0.", "t.", "h\u{5}.", "(N.", "NN.", "a.", "]]s.", "(S'a'\nd.", "R.", "NNR.", "NQ.", "Nb.",
    // Lengths beyond the file.
    "X\u{7f}\u{7f}\u{7f}\u{7f}a.", "B\u{7f}\u{7f}\u{7f}\u{7f}a.", "U\u{7f}a.", "Iabc\n.", "Fabc\n.", "S'a\n.",
    // Names and instructions outside of the list.
    "cos\nsystem\n(S'true'\ntR.", "(ios\nsystem\n.", "(cos\nsystem\no.", "ctorch\nload\n.",
    "ctorch._utils\n_rebuild_tensor_v2\n(tR.", "ccollections\nOrderedDict\n(NtR.",
  ])
  func refusesCraftedPickles(body: String) {
    let error = #expect(throws: PickleError.self) {
      try TorchCheckpoint(source: stream(body, storages: data))
    }
    #expect(error?.description.contains("'f'") == true)
  }

  @Test func interruptionLeavesNothing() throws {
    struct Stop: Error {}
    let folder = TemporaryFolder()
    let checkpoint = try TorchCheckpoint(path: Fixture.path("pickles/zip.pt"))
    #expect(throws: Stop.self) {
      try checkpoint.write(to: folder.path + "/out.safetensors") { _ in throw Stop() }
    }
    #expect(folder.files.isEmpty)
  }
}
