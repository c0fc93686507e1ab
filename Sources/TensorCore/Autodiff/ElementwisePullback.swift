import CKernels

extension Tensor {
  /// `gatedAdd` with a record: `dx = dy`, `dother = dy * gate`, `dgate = Σ dy * other`.
  static func gatedAddRecorded(_ x: Tensor, _ y: Tensor, gate: Tensor) -> Tensor {
    let gates = gate.detached().contiguous()
    let result = gatedAdd(x.detached(), y.detached(), gate: gates)
    let other = gate.isRecorded ? y.detached() : nil
    let (wantsX, wantsY) = (x.isRecorded, y.isRecorded)
    let (length, width) = (x.shape[1], x.shape[2])
    return result.recorded(from: [x, y, gate]) { gradient in
      let dy = gradient.contiguous()
      var gated: Tensor?
      if wantsY {
        let target = Tensor(uninitialized: dy.shape)
        forRows(dy.count / max(1, width), width: width) { first, rows in
          for row in first..<first + rows {
            let at = row * width
            kernels.mul(target.base + at, dy.base + at, gates.base + row / length * width, width)
          }
        }
        keepAlive(dy, gates)
        gated = target
      }
      return [wantsX ? dy : nil, gated, other.map { (dy * $0).reduced(to: gates.shape) }]
    }
  }

  /// The mean of the squared differences of two tensors of one shape, as a scalar `[1]`. Gradients reach this one.
  public func meanSquaredError(_ target: Tensor) -> Tensor {
    precondition(shape == target.shape, "error of \(shape) against \(target.shape)")
    let difference = detached() - target.detached()
    let squares = kernels.dot(difference.base, difference.base, difference.count)
    keepAlive(difference)
    let mean = Tensor([squares / Float(max(1, count))], shape: [1])
    return mean.recorded(from: [self]) { gradient in
      [difference * (2 * gradient.array()[0] / Float(max(1, difference.count)))]
    }
  }
}
