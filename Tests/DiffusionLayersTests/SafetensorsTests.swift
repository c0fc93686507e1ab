import DiffusionLayers
import Glibc
import TensorCore
import Testing

@Suite struct SafetensorsTests {
  @Test func roundTrip() throws {
    let folder = TemporaryFolder()
    let path = folder.path + "/out.safetensors"
    let values: [Float] = [0, -1.5, .pi, 0x1p-140, 3e38, -0.0]
    var writer = SafetensorsWriter(metadata: [("labels", #"[{"caption": "a \"red\" fish\n"}]"#)])
    writer.add("frames", bytes: [0, 127, 255], dtype: .uint8, shape: [1, 3])
    writer.add("z.weight", Tensor(values, shape: [2, 3]))
    writer.add("steps", integers: [1, -2, .max], shape: [3])
    writer.add("scalar", Tensor([4], shape: []))
    writer.setMetadata("format", "pt")
    try writer.write(to: path)

    let file = try SafetensorsFile(path: path)
    #expect(file.metadata("labels") == #"[{"caption": "a \"red\" fish\n"}]"#)
    #expect(file.metadata.map(\.0) == ["labels", "format"])
    #expect(file.names == ["steps", "scalar", "z.weight", "frames"])
    #expect(try file.load("z.weight").array().map(\.bitPattern) == values.map(\.bitPattern))
    #expect(try file.load("z.weight").shape == [2, 3])
    #expect(try file.load("scalar").shape == [])
    #expect(try file.scalar("scalar") == 4)
    #expect(try file.integers("steps") == [1, -2, .max])
    #expect(try file.bytes("frames") == [0, 127, 255])
    #expect(file.entries["frames"]?.dtype == .uint8)
    #expect(try #require(file.entries["steps"]).range.lowerBound % 8 == 0)
    #expect(file.residentBytes == 24 + 6 * 4 + 4 + 3)
    #expect(folder.files == ["out.safetensors"])
  }

  @Test func writerRefusesWhatTheReaderRefuses() throws {
    let folder = TemporaryFolder()
    let path = folder.path + "/x.safetensors"
    var twice = SafetensorsWriter()
    twice.add("a", Tensor([1], shape: [1]))
    twice.add("a", Tensor([1], shape: [1]))
    #expect(throws: WeightsError.duplicateTensor(file: path, name: "a")) { try twice.write(to: path) }
    var reserved = SafetensorsWriter()
    reserved.add("__metadata__", Tensor([1], shape: [1]))
    #expect(throws: WeightsError.duplicateTensor(file: path, name: "__metadata__")) {
      try reserved.write(to: path)
    }
    var control = SafetensorsWriter()
    control.add("a\n", Tensor([1], shape: [1]))
    #expect(throws: WeightsError.nameControlCharacter(file: path, name: "a\n")) {
      try control.write(to: path)
    }
    #expect(folder.files == [])
  }

  @Test func aFailedWriteLeavesTheOldFile() throws {
    let folder = TemporaryFolder()
    let path = try folder.write("old", to: "x.bin")
    do {
      var file = try AtomicFile(path)
      try file.write([1, 2, 3])
      #expect(folder.files.count == 2)
      // Not committed: the temporary file goes with the value.
    }
    #expect(folder.files == ["x.bin"])
    let source = try ByteSource.open(path)
    #expect(try source.bytes(0..<3) == Array("old".utf8))
    let error = #expect(throws: WeightsError.self) {
      try SafetensorsWriter().write(to: folder.path + "/no/such/x.safetensors")
    }
    #expect(error?.description.contains("cannot be written") == true)
  }

  /// Bit patterns of each dtype and the floats they stand for, in more than one piece of the reader's buffer.
  @Test func convertsToFloat() throws {
    let count = (1 << 18) + 3
    func check(_ dtype: String, _ pattern: [[UInt8]], _ expected: [Float]) throws {
      let size = pattern[0].count
      let header = #"{"t":{"dtype":"\#(dtype)","shape":[\#(count)],"data_offsets":[0,\#(count * size)]}}"#
      var data: [UInt8] = []
      data.reserveCapacity(count * size)
      for index in 0..<count { data += pattern[index % pattern.count] }
      let file = try SafetensorsFile(source: memory(crafted(Array(header.utf8), data: data)))
      let floats = try file.load("t").array()
      #expect(floats.count == count)
      let isEqual = floats.indices.allSatisfy { floats[$0] == expected[$0 % expected.count] }
      #expect(isEqual, "\(dtype): \(floats.prefix(6))")
    }
    try check("F32", [1.5, -2, 1e-30].map { littleEndian(Float($0).bitPattern) }, [1.5, -2, 1e-30])
    try check("F64", [1.5, -2, 0.1].map { littleEndian(Double($0).bitPattern) }, [1.5, -2, 0.1])
    // f16: 1, -2, the smallest subnormal, the largest number.
    try check(
      "F16", [0x3c00, 0xc000, 0x0001, 0x7bff].map { littleEndian(UInt16($0)) }, [1, -2, 0x1p-24, 65504])
    // bf16: 1, -2, 3.140625, the largest number.
    try check(
      "BF16", [0x3f80, 0xc000, 0x4049, 0x7f7f].map { littleEndian(UInt16($0)) },
      [1, -2, 3.140625, Float(bitPattern: 0x7f7f_0000)])
  }

  @Test(arguments: [
    ("F32", littleEndian(Float.nan.bitPattern)), ("F32", littleEndian(Float.infinity.bitPattern)),
    ("F32", littleEndian((-Float.infinity).bitPattern)), ("F16", littleEndian(UInt16(0x7e00))),
    ("F16", littleEndian(UInt16(0xfc00))), ("BF16", littleEndian(UInt16(0x7fc0))),
    ("F64", littleEndian(Double.nan.bitPattern)), ("F64", littleEndian(Double(1e300).bitPattern)),
  ])
  func findsNonFiniteWeights(dtype: String, bad: [UInt8]) throws {
    let zeros = [UInt8](repeating: 0, count: bad.count * 5)
    let header = #"{"t":{"dtype":"\#(dtype)","shape":[2,3],"data_offsets":[0,\#(bad.count * 6)]}}"#
    let file = try SafetensorsFile(source: memory(crafted(Array(header.utf8), data: zeros + bad)))
    #expect(throws: WeightsError.notFinite(file: "f", tensor: "t", index: 5)) { try file.load("t") }
    #expect(try file.load("t", checkFinite: false).array()[5].isFinite == false)
  }

  @Test func readsIntegersOfEveryWidth() throws {
    func one(_ dtype: String, _ bytes: [UInt8]) throws -> Int {
      let header = #"{"t":{"dtype":"\#(dtype)","shape":[1],"data_offsets":[0,\#(bytes.count)]}}"#
      let file = try SafetensorsFile(source: memory(crafted(Array(header.utf8), data: bytes)))
      #expect(throws: WeightsError.self) { try file.load("t") }
      #expect(try file.scalar("t") == Double(try file.integers("t")[0]))
      return try file.integers("t")[0]
    }
    #expect(try one("I64", littleEndian(Int64(-5))) == -5)
    #expect(try one("I32", littleEndian(Int32(-6))) == -6)
    #expect(try one("I16", littleEndian(Int16(-7))) == -7)
    #expect(try one("I8", [0xf8]) == -8)
    #expect(try one("U8", [0xf8]) == 248)
    #expect(try one("BOOL", [1]) == 1)
  }

  @Test func budgetIsCheckedBeforeReading() throws {
    let header = #"{"t":{"dtype":"F16","shape":[6],"data_offsets":[0,12]}}"#
    let file = try SafetensorsFile(source: memory(crafted(header, data: 12)))
    #expect(file.residentBytes == 24)
    #expect(throws: WeightsError.overBudget(file: "f", needed: 24, budget: 23)) { try file.check(budget: 23) }
    #expect(throws: WeightsError.overBudget(file: "f", needed: 24, budget: 23)) {
      try SafetensorsSource(file, memoryBudget: 23)
    }
    #expect(throws: Never.self) { try SafetensorsSource(file, memoryBudget: 24) }
    #expect(throws: Never.self) { try file.check(budget: 0) }
  }

  /// A sparse file states more than the machine has: refused at once, not tried.
  @Test func aFileBeyondTheMachineIsRefused() throws {
    let folder = TemporaryFolder()
    let count = 1 << 38
    let header = #"{"t":{"dtype":"F32","shape":[\#(count)],"data_offsets":[0,\#(count * 4)]}}"#
    let path = try folder.write(crafted(header), to: "big.safetensors")
    guard truncate(path, 8 + header.utf8.count + count * 4) == 0 else { return }  // no sparse files here
    let file = try SafetensorsFile(path: path)
    let error = #expect(throws: WeightsError.self) { try SafetensorsSource(file) }
    guard case .overBudget(_, let needed, _)? = error else {
      Issue.record("expected overBudget, got \(String(describing: error))")
      return
    }
    #expect(needed == UInt64(count) * 4)
  }
}

@Suite struct ByteSourceTests {
  @Test func refusesWhatIsNoRegularFile() throws {
    let folder = TemporaryFolder()
    let fifo = folder.path + "/fifo"
    #expect(mkfifo(fifo, 0o600) == 0)
    #expect(throws: WeightsError.notARegularFile(file: fifo, kind: "a FIFO")) { try ByteSource.open(fifo) }
    #expect(throws: WeightsError.notARegularFile(file: folder.path, kind: "a folder")) {
      try ByteSource.open(folder.path)
    }
    #expect(throws: WeightsError.notARegularFile(file: "/dev/zero", kind: "a device")) {
      try ByteSource.open("/dev/zero")
    }
    let missing = folder.path + "/missing"
    #expect(throws: WeightsError.notFound(file: missing)) { try ByteSource.open(missing) }
    #expect(throws: WeightsError.notFound(file: "a\0b")) { try ByteSource.open("a\0b") }
  }

  @Test func noticesAShrinkingFile() throws {
    let folder = TemporaryFolder()
    var writer = SafetensorsWriter()
    writer.add("t", Tensor.zeros([1000]))
    let path = folder.path + "/t.safetensors"
    try writer.write(to: path)
    let file = try SafetensorsFile(path: path)
    let size = try WeightFile(path).size
    #expect(truncate(path, 1000) == 0)
    #expect(throws: WeightsError.shrank(file: path, expected: size, found: 1000)) { try file.load("t") }
  }

  @Test func checksRangesBeforeAllocating() {
    let source = memory([1, 2, 3])
    #expect(throws: WeightsError.shrank(file: "f", expected: 1 << 60, found: 3)) {
      try source.bytes(0..<(1 << 60))
    }
  }
}
