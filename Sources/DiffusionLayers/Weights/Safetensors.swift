import Synchronization
public import TensorCore

/// A safetensors file whose header has been checked completely. Opening it reads the header only.
public struct SafetensorsFile: Sendable {
  /// The file's name, for messages.
  public let name: String
  /// The header's `__metadata__`, in file order.
  public let metadata: [(String, String)]
  public let entries: [String: TensorEntry]
  /// Tensor names in the order of their data.
  public let names: [String]
  private let source: ByteSource

  public init(source: ByteSource) throws(WeightsError) {
    let header = try SafetensorsHeader(source)
    self.source = source
    name = source.name
    metadata = header.metadata
    entries = header.entries
    names = header.names
  }

  /// Opens a file, or a builtin adapter (`builtin:NAME`).
  public init(path: String) throws(WeightsError) {
    try self.init(source: try ByteSource.open(path))
  }

  /// The metadata value of a key.
  public func metadata(_ key: String) -> String? { metadata.first { $0.0 == key }?.1 }

  /// Bytes that all tensors of floats take once they are loaded as f32.
  public var residentBytes: UInt64 {
    entries.values.reduce(0) {
      $0 + ($1.dtype.isFloatingPoint ? UInt64($1.count) * 4 : UInt64($1.range.count))
    }
  }

  /// Throws when `residentBytes` exceeds `budget`; 0 means no limit.
  public func check(budget: UInt64) throws(WeightsError) {
    let needed = residentBytes
    if budget > 0, needed > budget { throw .overBudget(file: name, needed: needed, budget: budget) }
  }

  /// Reads a tensor of floats (f32, f16, bf16 or f64) as f32. With `checkFinite` a NaN or infinity is an
  /// error.
  public func load(_ tensor: String, checkFinite: Bool = true) throws(WeightsError) -> Tensor {
    try load(tensor, try entry(tensor), checkFinite: checkFinite)
  }

  /// Reads rows `rows` of a matrix of floats; the others are not touched.
  public func load(_ tensor: String, rows: Range<Int>, checkFinite: Bool = true) throws(WeightsError)
    -> Tensor
  {
    let entry = try entry(tensor)
    precondition(
      entry.shape.count == 2 && rows.lowerBound >= 0 && rows.upperBound <= entry.shape[0],
      "rows \(rows) of \(entry.shape)")
    let width = entry.shape[1] * entry.dtype.byteSize
    let start = entry.range.lowerBound + rows.lowerBound * width
    return try load(
      tensor,
      TensorEntry(
        dtype: entry.dtype, shape: [rows.count, entry.shape[1]], range: start..<start + rows.count * width),
      checkFinite: checkFinite)
  }

  private func load(_ tensor: String, _ entry: TensorEntry, checkFinite: Bool) throws(WeightsError) -> Tensor
  {
    guard entry.dtype.isFloatingPoint else {
      throw .dtype(file: name, tensor: tensor, expected: "floating point", found: entry.dtype)
    }
    guard entry.count > 0 else { throw .empty(file: name, tensor: tensor) }
    do {
      return try Tensor(shape: entry.shape) { floats in
        try fill(floats, tensor, entry, checkFinite: checkFinite)
      }
    } catch let error as WeightsError {
      throw error
    } catch {
      throw .unreadable(file: name, reason: "\(error)")
    }
  }

  /// Reads a tensor of floats; a matrix of bf16 or f16 is read straight into place and stays as it is.
  public func weight(_ tensor: String, checkFinite: Bool = true) throws(WeightsError) -> Weight {
    let entry = try entry(tensor)
    guard entry.staysHalf, entry.count > 0 else {
      return Weight(try load(tensor, checkFinite: checkFinite))
    }
    let infinity: UInt16 = entry.dtype == .bfloat16 ? 0x7f80 : 0x7c00
    do {
      return try Weight(halves: entry.dtype, shape: entry.shape) { raw in
        try forPieces(of: entry) { first, count throws(WeightsError) in
          let target = UnsafeMutableRawBufferPointer(rebasing: raw[(2 * first)..<(2 * (first + count))])
          try source.read(at: entry.range.lowerBound + 2 * first, into: target)
          if checkFinite,
            let index = firstNonFinite(
              UnsafeBufferPointer(target.bindMemory(to: UInt16.self)), infinity: infinity)
          {
            throw .notFinite(file: name, tensor: tensor, index: first + index)
          }
        }
      }
    } catch let error as WeightsError {
      throw error
    } catch {
      throw .unreadable(file: name, reason: "\(error)")
    }
  }

  /// Reads a matrix of 8-bit integers, with the scales `[out]` of its rows.
  func int8Weight(_ tensor: String, scales: Tensor) throws(WeightsError) -> Weight {
    let entry = try entry(tensor)
    do {
      return try Weight(int8: entry.shape, scales: scales) { raw in
        try forPieces(of: entry) { first, count throws(WeightsError) in
          try source.read(
            at: entry.range.lowerBound + first,
            into: UnsafeMutableRawBufferPointer(rebasing: raw[first..<first + count]))
          // The kernels rely on it: -128 · -128 twice does not fit the sums of pairs.
          for index in first..<first + count where raw[index] == 0x80 {
            throw .quantization(file: name, tensor: tensor, reason: "holds -128; its numbers lie in -127…127")
          }
        }
      }
    } catch let error as WeightsError {
      throw error
    } catch {
      throw .unreadable(file: name, reason: "\(error)")
    }
  }

  /// The bytes of a tensor as they are stored.
  public func bytes(_ tensor: String) throws(WeightsError) -> [UInt8] {
    try source.bytes(try entry(tensor).range)
  }

  /// Bytes `part` of a tensor as it is stored, counted from its first one.
  package func bytes(_ tensor: String, in part: Range<Int>) throws(WeightsError) -> [UInt8] {
    let range = try entry(tensor).range
    guard part.lowerBound >= 0, part.upperBound <= range.count else {
      throw .shrank(file: name, expected: part.upperBound, found: range.count)
    }
    return try source.bytes((range.lowerBound + part.lowerBound)..<(range.lowerBound + part.upperBound))
  }

  /// Reads a tensor of integers or booleans.
  public func integers(_ tensor: String) throws(WeightsError) -> [Int] {
    let entry = try entry(tensor)
    let bytes = try source.bytes(entry.range)
    func read<T: FixedWidthInteger>(_ type: T.Type) -> [Int] {
      bytes.withUnsafeBytes { raw in
        (0..<entry.count).map {
          Int(T(littleEndian: raw.loadUnaligned(fromByteOffset: $0 * MemoryLayout<T>.size, as: T.self)))
        }
      }
    }
    switch entry.dtype {
    case .int64: return read(Int64.self)
    case .int32: return read(Int32.self)
    case .int16: return read(Int16.self)
    case .int8: return read(Int8.self)
    case .uint8, .bool: return read(UInt8.self)
    case .float32, .float16, .bfloat16, .float64:
      throw .dtype(file: name, tensor: tensor, expected: "integers", found: entry.dtype)
    }
  }

  /// Reads a tensor of one element, of any dtype. A NaN is returned as it stands.
  public func scalar(_ tensor: String) throws(WeightsError) -> Double {
    let entry = try entry(tensor)
    guard entry.count == 1 else {
      throw .shape(file: name, tensor: tensor, expected: [1], found: entry.shape)
    }
    if entry.dtype.isFloatingPoint {
      return Double(try load(tensor, checkFinite: false).array()[0])
    }
    return Double(try integers(tensor)[0])
  }

  private func entry(_ tensor: String) throws(WeightsError) -> TensorEntry {
    guard let entry = entries[tensor] else { throw .missing(file: name, tensor: tensor, expected: []) }
    return entry
  }

  /// Reads the data in pieces that fit the cache: f32 straight into place, the others through a small buffer.
  private func fill(
    _ floats: UnsafeMutableBufferPointer<Float>, _ tensor: String, _ entry: TensorEntry, checkFinite: Bool
  ) throws(WeightsError) {
    guard let start = floats.baseAddress else { throw .empty(file: name, tensor: tensor) }
    let size = entry.dtype.byteSize
    let isPlain = entry.dtype == .float32
    try forPieces(of: entry) { first, count throws(WeightsError) in
      let target = UnsafeMutableBufferPointer(start: start + first, count: count)
      let offset = entry.range.lowerBound + first * size
      if isPlain {
        try source.read(at: offset, into: UnsafeMutableRawBufferPointer(target))
      } else {
        let raw = UnsafeMutableRawBufferPointer.allocate(byteCount: count * size, alignment: 64)
        defer { raw.deallocate() }
        try source.read(at: offset, into: raw)
        convert(UnsafeRawBufferPointer(raw), entry.dtype, to: target)
      }
      if checkFinite, let index = firstNonFinite(UnsafeBufferPointer(target)) {
        throw .notFinite(file: name, tensor: tensor, index: first + index)
      }
    }
  }

  /// Calls `body(first, count)` for pieces of a tensor's elements, several at a time; the error of the first
  /// piece that fails is thrown.
  private func forPieces(
    of entry: TensorEntry, _ body: (_ first: Int, _ count: Int) throws(WeightsError) -> Void
  ) throws(WeightsError) {
    let piece = 1 << 18
    let failure = Mutex<(piece: Int, error: WeightsError)?>(nil)
    parallelFor((entry.count + piece - 1) / piece) { index in
      do throws(WeightsError) {
        try body(index * piece, min(piece, entry.count - index * piece))
      } catch {
        failure.withLock { if index < $0?.piece ?? .max { $0 = (index, error) } }
      }
    }
    if let failure = failure.withLock({ $0 }) { throw failure.error }
  }

  private func convert(
    _ raw: UnsafeRawBufferPointer, _ dtype: DType, to target: UnsafeMutableBufferPointer<Float>
  ) {
    guard let source = raw.baseAddress, let destination = target.baseAddress else { return }
    switch dtype {
    case .float16: HalfConversion.float16ToFloat(source, destination, count: target.count)
    case .bfloat16: HalfConversion.bfloat16ToFloat(source, destination, count: target.count)
    default:
      for index in 0..<target.count {
        destination[index] = Float(source.loadUnaligned(fromByteOffset: index * 8, as: Double.self))
      }
    }
  }
}

/// The index of the first NaN or infinity. One pass over the exponents decides for the whole buffer.
private func firstNonFinite(_ values: UnsafeBufferPointer<Float>) -> Int? {
  var largest: UInt32 = 0
  for value in values { largest = max(largest, value.bitPattern & 0x7fff_ffff) }
  return largest < 0x7f80_0000 ? nil : values.firstIndex { !$0.isFinite }
}

/// The same for numbers of two bytes whose exponent's bits are those of `infinity`.
private func firstNonFinite(_ values: UnsafeBufferPointer<UInt16>, infinity: UInt16) -> Int? {
  var largest: UInt16 = 0
  for value in values { largest = max(largest, value & 0x7fff) }
  return largest < infinity ? nil : values.firstIndex { $0 & 0x7fff >= infinity }
}

extension TensorEntry {
  /// Whether `SafetensorsFile.weight` keeps the tensor's two bytes a number: matrices, and filters of convolutions over
  /// pictures, of bf16 and f16.
  package var staysHalf: Bool {
    (dtype == .bfloat16 || dtype == .float16) && (shape.count == 2 || shape.count == 4)
  }
}

extension DType {
  /// Whether `SafetensorsFile.load` can turn it into f32.
  package var isFloatingPoint: Bool {
    switch self {
    case .float32, .float16, .bfloat16, .float64: true
    case .int64, .int32, .int16, .int8, .uint8, .bool: false
    }
  }
}
