import TensorCore

/// A tensor in the bytes of its file, for writing it again without loss.
struct StoredTensor: Sendable {
  let dtype: DType
  var shape: [Int]
  let bytes: [UInt8]

  var count: Int { shape.reduce(1, *) }

  init(dtype: DType, shape: [Int], bytes: [UInt8]) {
    self.dtype = dtype
    self.shape = shape
    self.bytes = bytes
  }

  /// Numbers in a dtype if it holds all of them exactly, else as f32.
  init(_ values: [Float], shape: [Int], as dtype: DType) {
    self.shape = shape
    if let exact = Self.encode(values, dtype) {
      self.dtype = dtype
      bytes = exact
    } else {
      self.dtype = .float32
      bytes = values.withUnsafeBytes { Array($0) }
    }
  }

  /// The bytes of the numbers in a half-precision dtype, or nil where one would be rounded.
  private static func encode(_ values: [Float], _ dtype: DType) -> [UInt8]? {
    var halves: [UInt16] = []
    halves.reserveCapacity(values.count)
    switch dtype {
    case .bfloat16:
      for value in values {
        guard value.bitPattern & 0xffff == 0 else { return nil }
        halves.append(UInt16(value.bitPattern >> 16))
      }
    case .float16:
      for value in values {
        let half = Float16(value)
        guard Float(half) == value else { return nil }
        halves.append(half.bitPattern)
      }
    default: return nil
    }
    return halves.withUnsafeBytes { Array($0) }
  }

  /// The numbers as f32.
  var floats: [Float] {
    bytes.withUnsafeBytes { raw in
      (0..<count).map { index in
        switch dtype {
        case .float16:
          Float(Float16(bitPattern: raw.loadUnaligned(fromByteOffset: 2 * index, as: UInt16.self)))
        case .bfloat16:
          Float(bitPattern: UInt32(raw.loadUnaligned(fromByteOffset: 2 * index, as: UInt16.self)) << 16)
        default: raw.loadUnaligned(fromByteOffset: 4 * index, as: Float.self)
        }
      }
    }
  }

  /// Every number times a factor, in the same dtype where that is exact.
  func scaled(by factor: Float) -> StoredTensor {
    factor == 1 ? self : StoredTensor(floats.map { $0 * factor }, shape: shape, as: dtype)
  }
}
