import CKernels

/// Numbers of one optimiser step.
package struct AdamWSettings: Sendable {
  let raw: CKAdamW

  /// - Parameters:
  ///   - scale: of the gradient.
  ///   - shrink: `1 - learning rate * weight decay`.
  ///   - step: `learning rate / (1 - beta1^t)`.
  ///   - rootCorrection: `√(1 - beta2^t)`.
  package init(
    scale: Float, beta1: Float, beta2: Float, shrink: Float, step: Float, rootCorrection: Float,
    epsilon: Float
  ) {
    raw = CKAdamW(
      scale: scale, beta1: beta1, beta2: beta2, shrink: shrink, step: step, root_correction: rootCorrection,
      epsilon: epsilon)
  }
}

extension Tensor {
  /// One step of AdamW; value and moments are changed in place where nobody else holds them.
  package static func adamW(
    _ value: inout Tensor, first: inout Tensor, second: inout Tensor, gradient: Tensor,
    _ settings: AdamWSettings
  ) {
    precondition(value.shape == gradient.shape, "gradient \(gradient.shape) of \(value.shape)")
    let g = gradient.detached().contiguous()
    let (w, m, v) = (own(&value), own(&first), own(&second))
    withUnsafePointer(to: settings.raw) { raw in
      forChunks(g.count) { start, count in
        kernels.gradient.adamw(w.base + start, m.base + start, v.base + start, g.base + start, raw, count)
      }
    }
    keepAlive(g)
    (value, first, second) = (w, m, v)
  }

  /// The tensor if nobody else holds it, else a copy; what it came from is empty then.
  private static func own(_ tensor: inout Tensor) -> Tensor {
    var held: Tensor? = tensor.detached()
    let shape = tensor.shape
    tensor = Tensor(uninitialized: [0])
    return target(&held, shape: shape).tensor
  }

  /// The sum of the squares of all elements, added up in pieces of a fixed size.
  package var sumOfSquares: Double {
    let dense = detached().contiguous()
    defer { keepAlive(dense) }
    return stride(from: 0, to: dense.count, by: elementwiseChunk).reduce(0.0) { sum, start in
      let part = dense.base + start
      return sum + Double(kernels.dot(part, part, min(elementwiseChunk, dense.count - start)))
    }
  }

  /// `self += other * factor`, in place where nobody else holds this tensor.
  package mutating func add(_ other: Tensor, scaledBy factor: Float = 1) {
    let part = other.detached().contiguous()
    let total = Self.own(&self)
    forChunks(total.count) { start, count in
      kernels.add_scaled(total.base + start, total.base + start, part.base + start, factor, count)
    }
    keepAlive(part)
    self = total
  }
}
