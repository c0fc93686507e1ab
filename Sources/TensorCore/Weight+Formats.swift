import CKernels

extension Weight {
  /// The most terms a sum of 8-bit products may have: with unsigned numbers of up to 255 it stays below 2³¹.
  public static let longestInt8Row = 65_536

  /// Whether a matrix of this shape can be kept as 8-bit integers.
  public static func fitsInt8(_ shape: [Int]) -> Bool {
    shape.count == 2 && shape[0] > 0 && (1...longestInt8Row).contains(shape[1])
  }

  /// The weight in another number format.
  ///
  /// `.bfloat16` rounds to the nearest, ties to even; products of such a matrix take bfloat16 inputs where the
  /// processor multiplies them, and are in f32 elsewhere. `.int8` rounds every row to 127 steps of its largest
  /// number on either side. `.float32` and `.float16` widen or keep, and never narrow.
  public func converted(to format: DType) -> Weight {
    switch (format, values) {
    case (.float32, .floats), (.float16, .halves(_, .float16)), (.int8, .integers), (.bfloat16, .brain):
      return self
    case (.bfloat16, .halves(let storage, .bfloat16)):
      guard shape.count == 2, ChipArithmetic.multipliesBFloat16 else { return self }
      return Weight(
        shape: shape, values: .brain(NarrowMatrix(.bfloat16, plain: storage, n: shape[0], k: shape[1])))
    case (.float32, _): return Weight(floats())
    case (.bfloat16, _):
      return rounded().converted(to: .bfloat16)
    case (.int8, _):
      precondition(Self.fitsInt8(shape), "8-bit integers for a weight of shape \(shape)")
      return quantized()
    default: preconditionFailure("a weight of \(self.format) as \(format)")
    }
  }

  /// The nearest numbers of bfloat16, stored as such.
  package func rounded() -> Weight {
    let source = floats().detached().contiguous()
    return Weight(halves: .bfloat16, shape: shape) { raw in
      guard let start = raw.baseAddress else { return }
      forChunks(count) { first, length in
        HalfConversion.floatToBFloat16(source.base + first, start + 2 * first, count: length)
      }
      keepAlive(source)
    }
  }

  private func quantized() -> Weight {
    let source = floats().detached().contiguous()
    let (rows, width) = (shape[0], shape[1])
    let scales = Tensor(uninitialized: [rows])
    let numbers = Storage(count: (count + 3) / 4)
    let target = UnsafeMutableRawPointer(numbers.floats).assumingMemoryBound(to: Int8.self)
    forRows(rows, width: width) { first, length in
      for row in first..<first + length {
        scales.base[row] = kernels.quantize_s8(target + row * width, source.base + row * width, width)
      }
    }
    keepAlive(source)
    return Weight(shape: shape, numbers: numbers, scales: scales)
  }

  /// A matrix `[out, in]` of 8-bit integers that `initializing` writes, all of them, with the `scales` `[out]` by
  /// which they are multiplied.
  public init(
    int8 shape: [Int], scales: Tensor, initializing: (UnsafeMutableRawBufferPointer) throws -> Void
  ) rethrows {
    precondition(
      Self.fitsInt8(shape) && scales.shape == [shape[0]],
      "scales \(scales.shape) for a weight of shape \(shape)")
    let numbers = Storage(count: (shape.product + 3) / 4)
    try initializing(UnsafeMutableRawBufferPointer(start: numbers.floats, count: shape.product))
    self.init(shape: shape, numbers: numbers, scales: scales)
  }

  private init(shape: [Int], numbers: Storage, scales: Tensor) {
    let (rows, width) = (shape[0], shape[1])
    var offsets: Storage?
    if ChipArithmetic.multipliesInt8 {
      let sums = Storage(count: rows)
      let source = UnsafeRawPointer(numbers.floats).assumingMemoryBound(to: Int8.self)
      let target = UnsafeMutableRawPointer(sums.floats).assumingMemoryBound(to: Int32.self)
      for row in 0..<rows {
        target[row] = (0..<width).reduce(0) { $0 + 128 * Int32(source[row * width + $1]) }
      }
      offsets = sums
    }
    self.init(
      shape: shape,
      values: .integers(
        IntegerProduct(
          matrix: NarrowMatrix(.int8, plain: numbers, n: rows, k: width),
          scales: scales.detached().contiguous(), offsets: offsets)))
  }

  /// The half-width numbers in row-major order; nil in another format.
  package func withHalves<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R? {
    let numbers: Storage
    switch values {
    case .halves(let storage, _): numbers = storage
    case .brain(let matrix): numbers = matrix.plain()
    case .floats, .integers: return nil
    }
    defer { keepAlive(numbers) }
    return try body(UnsafeRawBufferPointer(start: numbers.floats, count: 2 * count))
  }

  /// The 8-bit integers in row-major order and their scales; nil in another format.
  package func withInt8<R>(_ body: (UnsafeRawBufferPointer, _ scales: Tensor) throws -> R) rethrows -> R? {
    guard case .integers(let product) = values else { return nil }
    let numbers = product.matrix.plain()
    defer { keepAlive(numbers) }
    return try body(UnsafeRawBufferPointer(start: numbers.floats, count: count), product.scales)
  }
}
