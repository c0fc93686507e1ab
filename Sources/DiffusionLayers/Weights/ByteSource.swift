/// Bytes that can be read at any position: an open file, a file built into the program, or bytes in memory.
public enum ByteSource: Sendable {
  case file(WeightFile)
  case embedded(EmbeddedFile)
  case memory(name: String, bytes: [UInt8])

  /// Opens a file, or with `builtin:NAME` an adapter that is built in.
  public static func open(_ path: String) throws(WeightsError) -> ByteSource {
    if let name = BuiltinFiles.name(of: path) { return try BuiltinFiles.adapter(name) }
    return .file(try WeightFile(path))
  }

  /// The name for messages.
  public var name: String {
    switch self {
    case .file(let file): file.path
    case .embedded(let file): file.name
    case .memory(let name, _): name
    }
  }

  /// Length in bytes.
  public var count: Int {
    switch self {
    case .file(let file): file.size
    case .embedded(let file): file.bytes.count
    case .memory(_, let bytes): bytes.count
    }
  }

  /// A copy of the bytes in `range`. The range is checked against `count` before anything is allocated.
  public func bytes(_ range: Range<Int>) throws(WeightsError) -> [UInt8] {
    try check(range)
    var failure: WeightsError?
    let result = [UInt8](unsafeUninitializedCapacity: range.count) { buffer, count in
      let destination = UnsafeMutableRawBufferPointer(start: buffer.baseAddress, count: range.count)
      do throws(WeightsError) {
        try copy(range.lowerBound, into: destination)
        count = range.count
      } catch {
        failure = error
        count = 0
      }
    }
    if let failure { throw failure }
    return result
  }

  /// Fills `destination` with the bytes from `offset` on.
  func read(at offset: Int, into destination: UnsafeMutableRawBufferPointer) throws(WeightsError) {
    let (end, overflow) = offset.addingReportingOverflow(destination.count)
    guard !overflow, offset >= 0 else { throw .shrank(file: name, expected: .max, found: count) }
    try check(offset..<end)
    try copy(offset, into: destination)
  }

  private func check(_ range: Range<Int>) throws(WeightsError) {
    if range.lowerBound < 0 || range.upperBound > count {
      throw .shrank(file: name, expected: range.upperBound, found: count)
    }
  }

  private func copy(_ offset: Int, into destination: UnsafeMutableRawBufferPointer) throws(WeightsError) {
    let end = offset + destination.count
    switch self {
    case .file(let file): try file.read(at: offset, into: destination)
    case .embedded(let file):
      destination.copyMemory(from: UnsafeRawBufferPointer(rebasing: file.bytes[offset..<end]))
    case .memory(_, let bytes):
      bytes.withUnsafeBytes {
        destination.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[offset..<end]))
      }
    }
  }
}
