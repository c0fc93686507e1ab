/// An n-dimensional array of floats.
///
/// Shapes are written with `B` batch, `F` frames, `C` channels, `H W` height and width, `L` tokens, `D` model
/// width. Video latents are always `[B, C, F, H, W]`, tokens `[B, L, D]`, pictures inside an autoencoder `[N,
/// H, W, C]`.
///
/// A tensor is a value: a shape and strides over shared storage that nobody changes after it was written.
/// Views (`narrow`, `permuted`, …) copy nothing. `node` is nil unless a gradient is being recorded: it
/// travels with the value, so a model file knows no training mode (see Autodiff/Node.swift).
///
/// Operations trap, with both shapes in the message, when shapes do not fit: only a programmer can cause
/// that. Everything a user can cause (files, properties) is checked before tensors are made.
public struct Tensor: Sendable {
  /// Extent of each dimension.
  public let shape: [Int]
  /// Distance in floats between neighbours along each dimension.
  package let strides: [Int]
  package let offset: Int
  package var storage: Storage
  package var node: Node?

  package init(storage: Storage, shape: [Int], strides: [Int], offset: Int, node: Node? = nil) {
    self.storage = storage
    self.shape = shape
    self.strides = strides
    self.offset = offset
    self.node = node
  }

  /// An uninitialised contiguous tensor, to be written at once by the operation that makes it.
  package init(uninitialized shape: [Int]) {
    self.init(
      storage: Storage(count: shape.product), shape: shape, strides: shape.contiguousStrides, offset: 0)
  }

  /// A contiguous tensor whose floats `initializing` writes, all of them.
  public init(
    shape: [Int], initializing: (UnsafeMutableBufferPointer<Float>) throws -> Void
  ) rethrows {
    self.init(uninitialized: shape)
    try initializing(UnsafeMutableBufferPointer(start: storage.floats, count: shape.product))
  }

  /// A tensor of `values` in row-major order.
  public init(_ values: [Float], shape: [Int]) {
    precondition(values.count == shape.product, "\(values.count) values for shape \(shape)")
    self.init(shape: shape) { buffer in _ = buffer.update(fromContentsOf: values) }
  }

  /// A tensor filled with one value.
  public init(repeating value: Float, shape: [Int]) {
    self.init(shape: shape) { $0.update(repeating: value) }
  }

  /// A tensor of zeros.
  public static func zeros(_ shape: [Int]) -> Tensor { Tensor(repeating: 0, shape: shape) }

  /// Number of elements.
  public var count: Int { shape.product }
  /// Number of dimensions.
  public var rank: Int { shape.count }

  /// The first float. Valid while a tensor that shares the storage is alive.
  package var base: UnsafeMutablePointer<Float> { storage.floats + offset }

  /// Whether the elements lie in row-major order without gaps.
  package var isContiguous: Bool {
    var expected = 1
    for (extent, stride) in zip(shape, strides).reversed() where extent != 1 {
      if stride != expected { return false }
      expected *= extent
    }
    return true
  }

  /// The elements in row-major order.
  public func array() -> [Float] {
    let source = detached().contiguous()
    defer { keepAlive(source) }
    return [Float](UnsafeBufferPointer(start: source.base, count: count))
  }

  /// Reads the elements in row-major order without a copy where the tensor is contiguous.
  public func withFloats<R>(_ body: (UnsafeBufferPointer<Float>) throws -> R) rethrows -> R {
    let source = detached().contiguous()
    defer { keepAlive(source) }
    return try body(UnsafeBufferPointer(start: source.base, count: count))
  }

  /// The same value without its gradient record.
  public func detached() -> Tensor {
    Tensor(storage: storage, shape: shape, strides: strides, offset: offset)
  }
}

/// Keeps values alive up to this point, while pointers into them are in use.
@inline(__always)
package func keepAlive<each T>(_ values: repeat each T) {
  repeat withExtendedLifetime(each values) {}
}

extension [Int] {
  /// The number of elements of a tensor of this shape.
  package var product: Int { reduce(1, *) }

  /// Row-major strides of this shape.
  package var contiguousStrides: [Int] {
    var strides = [Int](repeating: 1, count: count)
    for axis in stride(from: count - 2, through: 0, by: -1) {
      strides[axis] = strides[axis + 1] * self[axis + 1]
    }
    return strides
  }
}
