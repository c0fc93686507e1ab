/// A weight in the number format of its file: f32, or bf16 and f16 at their two bytes a number.
///
/// Shared by every model built from it and never changed. Half-width numbers are widened where they are used,
/// which is exact: results have the same bytes as with a weight that was widened at load.
public struct Weight: Sendable {
  public let shape: [Int]
  private let values: Values

  private enum Values: Sendable {
    case floats(Tensor)
    /// `.bfloat16` or `.float16`, two to a float of the storage.
    case halves(Storage, DType)
  }

  /// A weight in f32.
  public init(_ tensor: Tensor) {
    shape = tensor.shape
    values = .floats(tensor)
  }

  /// A weight of half-width numbers that `initializing` writes, all of them.
  /// - Parameter format: `.bfloat16` or `.float16`.
  public init(
    halves format: DType, shape: [Int], initializing: (UnsafeMutableRawBufferPointer) throws -> Void
  ) rethrows {
    precondition(format == .bfloat16 || format == .float16, "\(format) is no half-width float")
    let count = shape.product
    let storage = Storage(count: (count + 1) / 2)
    try initializing(UnsafeMutableRawBufferPointer(start: storage.floats, count: 2 * count))
    self.shape = shape
    values = .halves(storage, format)
  }

  /// Number of elements.
  public var count: Int { shape.product }

  /// How the numbers are kept.
  public var format: DType {
    switch values {
    case .floats: .float32
    case .halves(_, let format): format
    }
  }

  /// Bytes in memory.
  public var bytes: Int { count * format.byteSize }

  /// The weight as f32: the tensor itself where it is one, else a widened copy.
  public func floats() -> Tensor {
    switch values {
    case .floats(let tensor): return tensor
    case .halves(let storage, let format):
      let result = Tensor(uninitialized: shape)
      let source = UnsafeRawPointer(storage.floats)
      forChunks(count) { start, count in
        widen(source + 2 * start, format, result.base + start, count)
      }
      keepAlive(storage)
      return result
    }
  }

  /// Rows of a matrix `[rows, columns]` as f32 `[indices.count, columns]`, such as embeddings of tokens.
  public func rows(_ indices: [Int]) -> Tensor {
    precondition(shape.count == 2, "rows of a weight of shape \(shape)")
    let columns = shape[1]
    let result = Tensor(uninitialized: [indices.count, columns])
    for (row, index) in indices.enumerated() {
      precondition((0..<shape[0]).contains(index), "row \(index) of \(shape[0])")
      let target = result.base + row * columns
      switch values {
      case .floats(let tensor):
        let source = tensor.detached().contiguous()
        target.update(from: source.base + index * columns, count: columns)
        keepAlive(source)
      case .halves(let storage, let format):
        widen(UnsafeRawPointer(storage.floats) + 2 * index * columns, format, target, columns)
        keepAlive(storage)
      }
    }
    return result
  }
}

private func widen(
  _ source: UnsafeRawPointer, _ format: DType, _ target: UnsafeMutablePointer<Float>, _ count: Int
) {
  if format == .bfloat16 {
    HalfConversion.bfloat16ToFloat(source, target, count: count)
  } else {
    HalfConversion.float16ToFloat(source, target, count: count)
  }
}

extension Tensor {
  /// `activation(x · weightᵀ + bias)` with a weight `[out, in]` in its file's format.
  public static func linear(
    _ x: Tensor, weight: Weight, bias: Tensor? = nil, activation: Activation = .identity
  ) -> Tensor {
    if x.isRecorded || bias?.isRecorded == true {
      return linearRecorded(x, weight: weight, bias: bias, activation: activation)
    }
    return linear(x, weight: weight.floats(), bias: bias, activation: activation)
  }
}
