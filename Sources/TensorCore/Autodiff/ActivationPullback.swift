import CKernels

extension Tensor {
  /// The activation as an operation of its own.
  package func applying(_ activation: Activation) -> Tensor {
    switch activation {
    case .identity: self
    case .relu: relu()
    case .silu: silu()
    case .geluTanh: geluTanh()
    }
  }

  /// A pointwise operation with the kernel of its gradient, which needs the input again.
  func mapRecorded(
    _ kernel: (UnsafeMutablePointer<Float>, UnsafePointer<Float>, Int) -> Void,
    gradient:
      @escaping @Sendable (
        _ target: UnsafeMutablePointer<Float>, _ x: UnsafePointer<Float>, _ gradient: UnsafePointer<Float>,
        Int
      ) -> Void
  ) -> Tensor {
    guard isRecorded else { return map(kernel) }
    let x = detached().contiguous()
    return x.map(kernel).recorded(from: [self]) { upstream in
      let dy = upstream.contiguous()
      let dx = Tensor(uninitialized: x.shape)
      forChunks(x.count) { start, count in gradient(dx.base + start, x.base + start, dy.base + start, count) }
      keepAlive(x, dy)
      return [dx]
    }
  }
}
