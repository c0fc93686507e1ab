public import TensorCore

/// Collects tensors and writes them as one safetensors file that appears whole or not at all.
///
/// The file follows the reference writer: data ordered by falling element size and then by name, so that
/// every tensor is aligned, and a header padded with spaces to a multiple of 8 bytes.
public struct SafetensorsWriter {
  private enum Data {
    case floats(Tensor)
    case raw([UInt8])
    case streamed((inout AtomicFile) throws(WeightsError) -> Void)
  }

  private struct Item {
    var name: String
    var dtype: DType
    var shape: [Int]
    var bytes: Int
    var data: Data
  }

  private var items: [Item] = []
  private var metadata: [(String, String)]

  /// `metadata` becomes the header's `__metadata__`; its keys must be unique.
  public init(metadata: [(String, String)] = []) { self.metadata = metadata }

  /// Adds a tensor, stored as f32.
  public mutating func add(_ name: String, _ tensor: Tensor) {
    items.append(
      Item(
        name: name, dtype: .float32, shape: tensor.shape, bytes: tensor.count * 4,
        data: .floats(tensor.detached())))
  }

  /// Adds raw bytes; their number must fit the shape.
  public mutating func add(_ name: String, bytes: [UInt8], dtype: DType, shape: [Int]) {
    precondition(
      bytes.count == shape.reduce(dtype.byteSize, *), "\(bytes.count) bytes for \(dtype) of shape \(shape)")
    items.append(Item(name: name, dtype: dtype, shape: shape, bytes: bytes.count, data: .raw(bytes)))
  }

  /// Adds 64-bit integers.
  public mutating func add(_ name: String, integers: [Int], shape: [Int]) {
    let bytes = integers.flatMap { withUnsafeBytes(of: Int64($0).littleEndian) { Array($0) } }
    add(name, bytes: bytes, dtype: .int64, shape: shape)
  }

  /// Adds a tensor whose bytes `write` appends while the file is written; their number must fit the shape.
  package mutating func add(
    _ name: String, dtype: DType, shape: [Int],
    write: @escaping (inout AtomicFile) throws(WeightsError) -> Void
  ) {
    items.append(
      Item(
        name: name, dtype: dtype, shape: shape, bytes: shape.reduce(dtype.byteSize, *), data: .streamed(write)
      ))
  }

  /// Adds or replaces an entry of the header's metadata.
  public mutating func setMetadata(_ key: String, _ value: String) {
    metadata.removeAll { $0.0 == key }
    metadata.append((key, value))
  }

  /// Writes the file: to a temporary file in the same folder first, then fsync and rename.
  public func write(to path: String) throws(WeightsError) {
    try check(path)
    let order = items.sorted { a, b in
      a.dtype.byteSize != b.dtype.byteSize ? a.dtype.byteSize > b.dtype.byteSize : a.name < b.name
    }
    var file = try AtomicFile(path)
    try file.write(header(order))
    for item in order {
      switch item.data {
      case .raw(let bytes): try file.write(bytes)
      case .streamed(let write): try write(&file)
      case .floats(let tensor): try Self.write(tensor, to: &file)
      }
    }
    try file.commit()
  }

  private static func write(_ tensor: Tensor, to file: inout AtomicFile) throws(WeightsError) {
    var failure: WeightsError?
    tensor.withFloats { floats in
      do throws(WeightsError) { try file.write(UnsafeRawBufferPointer(floats)) } catch { failure = error }
    }
    if let failure { throw failure }
  }

  private func header(_ order: [Item]) -> [UInt8] {
    var members: [String] = []
    if !metadata.isEmpty {
      let entries = metadata.map { "\(JSONValue.quoted($0.0)):\(JSONValue.quoted($0.1))" }
      members.append("\"__metadata__\":{\(entries.joined(separator: ","))}")
    }
    var offset = 0
    for item in order {
      let shape = item.shape.map { "\($0)" }.joined(separator: ",")
      members.append(
        "\(JSONValue.quoted(item.name)):{\"dtype\":\"\(item.dtype.safetensorsName)\",\"shape\":[\(shape)],"
          + "\"data_offsets\":[\(offset),\(offset + item.bytes)]}")
      offset += item.bytes
    }
    var text = Array("{\(members.joined(separator: ","))}".utf8)
    text += [UInt8](repeating: 0x20, count: (8 - text.count % 8) % 8)
    return withUnsafeBytes(of: UInt64(text.count).littleEndian) { Array($0) } + text
  }

  /// Refuses what the reader would refuse.
  private func check(_ path: String) throws(WeightsError) {
    var names: Set<String> = ["__metadata__"]
    for item in items {
      try SafetensorsHeader.check(name: item.name, file: path)
      guard names.insert(item.name).inserted else { throw .duplicateTensor(file: path, name: item.name) }
      if item.shape.count > SafetensorsLimits.rank {
        throw .rankTooLarge(file: path, tensor: item.name, limit: SafetensorsLimits.rank)
      }
    }
    var keys: Set<String> = []
    for (key, _) in metadata {
      guard keys.insert(key).inserted else { throw .duplicateTensor(file: path, name: "__metadata__.\(key)") }
    }
    if items.count > SafetensorsLimits.tensors {
      throw .tooManyTensors(file: path, limit: SafetensorsLimits.tensors)
    }
  }
}
