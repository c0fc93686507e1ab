import CKernels

/// A weight in one of the number formats that weights are kept in: f32, bf16 and f16 at two bytes a number, or 8-bit
/// integers with a scale per output channel.
///
/// Shared by every model built from it and never changed. Half-width numbers are widened where they are used, which is
/// exact: results have the same bytes as with a weight that was widened at load. `converted(to:)` chooses another
/// format, and with it the arithmetic of `Tensor.linear`.
public struct Weight: Sendable {
  public let shape: [Int]
  let values: Values
  /// The matrix once more as the kernels of a training read it; see `packed()`.
  var panels: PanelMatrix?

  enum Values: Sendable {
    case floats(Tensor)
    /// `.bfloat16` or `.float16`, two to a float of the storage; products are in f32.
    case halves(Storage, DType)
    /// bfloat16 that is multiplied as such, for processors that do.
    case brain(NarrowMatrix)
    /// 8-bit integers, for integer products.
    case integers(IntegerProduct)
  }

  init(shape: [Int], values: Values) {
    self.shape = shape
    self.values = values
  }

  /// A weight in f32.
  public init(_ tensor: Tensor) {
    self.init(shape: tensor.shape, values: .floats(tensor))
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
    self.init(shape: shape, values: .halves(storage, format))
  }

  /// The same matrix with a copy packed for a training, where it is read by every sample of every step, forwards and
  /// backwards. Results are those of f32, whatever the format.
  package func packed() -> Weight {
    precondition(shape.count == 2, "packing a weight of shape \(shape)")
    var copy = self
    copy.panels = PanelMatrix(floats())
    return copy
  }

  /// Number of elements.
  public var count: Int { shape.product }

  /// How the numbers are kept.
  public var format: DType {
    switch values {
    case .floats: .float32
    case .halves(_, let format): format
    case .brain: .bfloat16
    case .integers: .int8
    }
  }

  /// Bytes in memory.
  public var bytes: Int { Self.bytes(shape, as: format) }

  /// Bytes that a weight of this shape takes in memory.
  public static func bytes(_ shape: [Int], as format: DType) -> Int {
    shape.product * format.byteSize + (format == .int8 ? (shape.first ?? 0) * DType.float32.byteSize : 0)
  }

  /// The weight as f32: the tensor itself where it is one, else a widened copy.
  public func floats() -> Tensor {
    if case .floats(let tensor) = values { return tensor }
    let result = Tensor(uninitialized: shape)
    let width = rowWidth
    withRows { read in
      forRows(count / max(1, width), width: width) { first, rows in
        for row in first..<first + rows { read(row, result.base + row * width) }
      }
    }
    return result
  }

  /// The same numbers in row-major order under another shape; not of a matrix that was converted.
  public func reshaped(_ newShape: [Int]) -> Weight {
    precondition(newShape.product == count, "reshape of a weight \(shape) to \(newShape)")
    switch values {
    case .floats(let tensor): return Weight(tensor.reshaped(newShape))
    case .halves: return Weight(shape: newShape, values: values)
    case .brain, .integers:
      precondition(newShape == shape, "reshape of a converted weight \(shape) to \(newShape)")
      return self
    }
  }

  /// Rows of a matrix `[rows, columns]` as f32 `[indices.count, columns]`, such as embeddings of tokens.
  public func rows(_ indices: [Int]) -> Tensor {
    precondition(shape.count == 2, "rows of a weight of shape \(shape)")
    let columns = shape[1]
    let result = Tensor(uninitialized: [indices.count, columns])
    withRows { read in
      for (place, index) in indices.enumerated() {
        precondition((0..<shape[0]).contains(index), "row \(index) of \(shape[0])")
        read(index, result.base + place * columns)
      }
    }
    return result
  }

  /// Numbers of one output.
  private var rowWidth: Int { shape.count > 1 ? shape[1...].reduce(1, *) : shape.first ?? 1 }

  /// Calls `body` with a function that writes a row as f32.
  private func withRows(_ body: ((_ row: Int, _ target: UnsafeMutablePointer<Float>) -> Void) -> Void) {
    let width = rowWidth
    switch values {
    case .floats(let tensor):
      let source = tensor.detached().contiguous()
      body { $1.update(from: source.base + $0 * width, count: width) }
      keepAlive(source)
    case .halves(let storage, let format):
      let source = UnsafeRawPointer(storage.floats)
      body { HalfConversion.widen(source + 2 * $0 * width, format, $1, width) }
      keepAlive(storage)
    case .brain(let matrix):
      let storage = matrix.plain()
      let source = UnsafeRawPointer(storage.floats)
      body { HalfConversion.widen(source + 2 * $0 * width, .bfloat16, $1, width) }
      keepAlive(storage)
    case .integers(let product):
      let storage = product.matrix.plain()
      let source = UnsafeRawPointer(storage.floats).assumingMemoryBound(to: Int8.self)
      body { kernels.s8_to_f32($1, source + $0 * width, product.scales.base[$0], width) }
      keepAlive(storage, product.scales)
    }
  }
}
