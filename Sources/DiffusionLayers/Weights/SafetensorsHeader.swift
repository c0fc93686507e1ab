// Format: github.com/huggingface/safetensors. 8 bytes little-endian header length, a JSON object, the data.

public import TensorCore

/// Where one tensor of a safetensors file lies.
public struct TensorEntry: Sendable, Equatable {
  /// How its numbers are stored.
  public let dtype: DType
  public let shape: [Int]
  /// Its bytes, counted from the start of the file.
  public let range: Range<Int>

  /// Number of elements.
  public var count: Int { range.count / dtype.byteSize }
}

/// The limits of what a header may hold.
enum SafetensorsLimits {
  static let headerBytes = 100_000_000
  static let tensors = 100_000
  static let nameBytes = 1024
  static let rank = 8
}

/// The parsed and fully checked header: every tensor lies inside the file, and together they cover its data
/// without a hole or an overlap.
struct SafetensorsHeader: Sendable {
  var metadata: [(String, String)] = []
  var entries: [String: TensorEntry] = [:]
  /// Tensor names in the order of their data.
  var names: [String] = []

  init(_ source: ByteSource) throws(WeightsError) {
    let file = source.name
    let dataStart: Int
    let text: [UInt8]
    do throws(WeightsError) {
      (text, dataStart) = try Self.headerText(source)
    } catch {
      // Before complaining about details, see whether it is another kind of file altogether.
      let head = (try? source.bytes(0..<min(512, source.count))) ?? []
      throw ForeignFormat(head: head).map { .foreign(file: file, format: $0) } ?? error
    }
    var parser = HeaderParser(file: file, reader: JSONReader(text, maxDepth: 3))
    do throws(WeightsError) {
      try parser.parse()
    } catch {
      if case .header(var reason) = error {
        reason.file = file
        throw .header(reason)
      }
      throw error
    }
    if text[parser.reader.position...].contains(where: { $0 != 0x20 }) { throw .headerTrailing(file: file) }
    metadata = parser.metadata
    try place(parser.raw, file: file, dataStart: dataStart, available: source.count - dataStart)
  }

  /// The header's bytes and where the data starts.
  private static func headerText(_ source: ByteSource) throws(WeightsError) -> ([UInt8], Int) {
    let file = source.name
    guard source.count >= 10 else { throw .tooSmall(file: file, bytes: source.count) }
    let declared = try source.bytes(0..<8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    if declared < 2 { throw .headerEmpty(file: file, length: Int(declared)) }
    guard declared <= UInt64(SafetensorsLimits.headerBytes) else {
      throw .headerTooLarge(file: file, length: declared, limit: SafetensorsLimits.headerBytes)
    }
    let length = Int(declared)
    guard length <= source.count - 8 else {
      throw .headerBeyondFile(file: file, length: length, available: source.count - 8)
    }
    let first = try source.bytes(8..<9)[0]
    if first != UInt8(ascii: "{") { throw .headerStart(file: file, byte: first) }
    return (try source.bytes(8..<(8 + length)), 8 + length)
  }

  /// Checks that the tensors tile the data exactly and turns their offsets into positions in the file.
  private mutating func place(
    _ raw: [RawEntry], file: String, dataStart: Int, available: Int
  ) throws(WeightsError) {
    var cursor = 0
    for entry in raw.sorted(by: { ($0.begin, $0.end) < ($1.begin, $1.end) }) {
      guard entry.end <= available else {
        throw .beyondEnd(file: file, tensor: entry.name, end: entry.end, available: available)
      }
      if entry.begin < cursor { throw .overlap(file: file, tensor: entry.name) }
      if entry.begin > cursor {
        throw .hole(file: file, tensor: entry.name, bytes: entry.begin - cursor)
      }
      cursor = entry.end
      names.append(entry.name)
      entries[entry.name] = TensorEntry(
        dtype: entry.dtype, shape: entry.shape, range: (dataStart + entry.begin)..<(dataStart + entry.end))
    }
    if cursor < available { throw .unusedTail(file: file, bytes: available - cursor) }
  }

  /// Checks a tensor's name: not empty, not too long, no control characters.
  static func check(name: String, file: String) throws(WeightsError) {
    if name.isEmpty { throw .nameEmpty(file: file) }
    if name.utf8.count > SafetensorsLimits.nameBytes {
      throw .nameTooLong(file: file, bytes: name.utf8.count, limit: SafetensorsLimits.nameBytes)
    }
    if name.unicodeScalars.contains(where: { $0.properties.generalCategory == .control }) {
      throw .nameControlCharacter(file: file, name: name)
    }
  }
}

/// A tensor as the header states it; its own numbers agree, its place in the file is not checked yet.
private struct RawEntry {
  var name: String
  var dtype: DType
  var shape: [Int]
  var begin: Int
  var end: Int
}

/// Reads the header's JSON straight into entries, so that nothing is built from what does not belong there.
private struct HeaderParser {
  let file: String
  var reader: JSONReader
  var raw: [RawEntry] = []
  var metadata: [(String, String)] = []
  private var seen: Set<String> = []

  init(file: String, reader: JSONReader) {
    self.file = file
    self.reader = reader
  }

  mutating func parse() throws(WeightsError) {
    try json { reader throws(JSONError) in try reader.beginObject() }
    while let key = try nextKey() {
      guard seen.insert(key).inserted else { throw .duplicateTensor(file: file, name: key) }
      if key == "__metadata__" {
        try parseMetadata()
      } else {
        try SafetensorsHeader.check(name: key, file: file)
        if raw.count == SafetensorsLimits.tensors {
          throw .tooManyTensors(file: file, limit: SafetensorsLimits.tensors)
        }
        raw.append(try parseEntry(key))
      }
    }
  }

  private mutating func parseMetadata() throws(WeightsError) {
    var keys: Set<String> = []
    try json { reader throws(JSONError) in try reader.beginObject() }
    while let key = try nextKey() {
      guard keys.insert(key).inserted else { throw .duplicateTensor(file: file, name: "__metadata__.\(key)") }
      guard try json({ reader throws(JSONError) in try reader.peekKind() }) == .string else {
        throw .metadata(file: file, key: key)
      }
      metadata.append((key, try json { reader throws(JSONError) in try reader.string() }))
    }
  }

  private mutating func parseEntry(_ name: String) throws(WeightsError) -> RawEntry {
    var dtype: DType?
    var shape: [Int]?
    var offsets: [Int]?
    try json { reader throws(JSONError) in try reader.beginObject() }
    while let field = try nextKey() {
      switch field {
      case "dtype" where dtype == nil:
        let word = try json { reader throws(JSONError) in try reader.string() }
        guard let known = DType(safetensors: word) else {
          throw .unknownDType(file: file, tensor: name, found: String(word.prefix(32)))
        }
        dtype = known
      case "shape" where shape == nil:
        shape = try numbers(name, field, limit: SafetensorsLimits.rank)
        if shape == nil { throw .rankTooLarge(file: file, tensor: name, limit: SafetensorsLimits.rank) }
      case "data_offsets" where offsets == nil:
        offsets = try numbers(name, field, limit: 2)
        if offsets?.count != 2 { throw .offsetCount(file: file, tensor: name) }
      case "dtype", "shape", "data_offsets":
        throw .duplicateTensor(file: file, name: "\(name).\(field)")
      default:
        throw .unknownField(file: file, tensor: name, field: String(field.prefix(64)))
      }
    }
    guard let dtype else { throw .missingField(file: file, tensor: name, field: "dtype") }
    guard let shape else { throw .missingField(file: file, tensor: name, field: "shape") }
    guard let offsets else { throw .missingField(file: file, tensor: name, field: "data_offsets") }
    let (begin, end) = (offsets[0], offsets[1])
    guard begin <= end else { throw .offsets(file: file, tensor: name, begin: begin, end: end) }
    guard let bytes = byteCount(shape, dtype) else {
      throw .shapeOverflow(file: file, tensor: name, shape: shape)
    }
    guard bytes == end - begin else {
      throw .sizeMismatch(file: file, tensor: name, expected: bytes, found: end - begin)
    }
    return RawEntry(name: name, dtype: dtype, shape: shape, begin: begin, end: end)
  }

  /// An array of whole numbers, or nil when it has more than `limit` of them.
  private mutating func numbers(_ name: String, _ field: String, limit: Int) throws(WeightsError) -> [Int]? {
    var values: [Int] = []
    guard try json({ reader throws(JSONError) in try reader.peekKind() }) == .array else {
      throw .badNumber(file: file, tensor: name, field: field)
    }
    try json { reader throws(JSONError) in try reader.beginArray() }
    while try json({ reader throws(JSONError) in try reader.nextElement() }) {
      if values.count == limit { return nil }
      do {
        values.append(try reader.unsignedInteger())
      } catch {
        guard case .notAnUnsignedInteger = error.reason else { throw .header(error) }
        throw .badNumber(file: file, tensor: name, field: field)
      }
    }
    return values
  }

  /// Bytes of a tensor, or nil when they overflow. The product is taken without zeros, so that a zero hides
  /// nothing.
  private func byteCount(_ shape: [Int], _ dtype: DType) -> Int? {
    var product = dtype.byteSize
    for extent in shape where extent > 0 {
      let (next, overflow) = product.multipliedReportingOverflow(by: extent)
      if overflow { return nil }
      product = next
    }
    return shape.contains(0) ? 0 : product
  }

  private mutating func nextKey() throws(WeightsError) -> String? {
    try json { reader throws(JSONError) in try reader.nextKey() }
  }

  private mutating func json<T>(
    _ read: (inout JSONReader) throws(JSONError) -> T
  ) throws(WeightsError) -> T {
    do {
      return try read(&reader)
    } catch {
      throw .header(error)
    }
  }
}

extension DType {
  /// The dtype of a safetensors name such as `BF16`; nil for one this engine cannot hold.
  init?(safetensors name: String) {
    guard let match = Self.allCases.first(where: { $0.safetensorsName == name }) else { return nil }
    self = match
  }

  /// The name in a safetensors header.
  package var safetensorsName: String {
    switch self {
    case .float32: "F32"
    case .float16: "F16"
    case .bfloat16: "BF16"
    case .float64: "F64"
    case .int64: "I64"
    case .int32: "I32"
    case .int16: "I16"
    case .int8: "I8"
    case .uint8: "U8"
    case .bool: "BOOL"
    }
  }
}
