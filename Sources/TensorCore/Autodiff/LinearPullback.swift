import CKernels

extension Tensor {
  /// `linear` with a record. With `y = x · Wᵀ + b`: `dx = dy · W`, `dW = dyᵀ · x`, `db = Σ dy`; only what is recorded
  /// is computed, so a frozen layer needs its weight alone.
  static func linearRecorded(_ x: Tensor, weight: Tensor, bias: Tensor?, activation: Activation) -> Tensor {
    let matrix = weight.detached().contiguous()
    let result = product(x, matrix, bias)
    let source = weight.isRecorded ? x.detached().contiguous() : nil
    let (wantsInput, wantsBias) = (x.isRecorded, bias?.isRecorded == true)
    let shape = x.shape
    return result.recorded(accumulating: [x, weight] + (bias.map { [$0] } ?? [])) { gradient, sums in
      let dy = gradient.contiguous()
      if wantsInput { inputGradient(dy, matrix, shape: shape, into: &sums[0]) }
      if let source { weightGradient(dy, source, into: &sums[1]) }
      if wantsBias {
        let rows = dy.reshaped([-1, dy.shape.last ?? 1])
        accumulate(rows.reduced(to: [1, rows.shape[1]]).reshaped([rows.shape[1]]), into: &sums[2])
      }
    }.applying(activation)
  }

  /// The same with a frozen weight in its file's format, which is widened again for the gradient.
  static func linearRecorded(_ x: Tensor, weight: Weight, bias: Tensor?, activation: Activation) -> Tensor {
    let result = product(x, weight.floats().contiguous(), bias)
    let shape = x.shape
    let wantsBias = bias?.isRecorded == true
    let wantsInput = x.isRecorded
    return result.recorded(accumulating: [x] + (bias.map { [$0] } ?? [])) { gradient, sums in
      let dy = gradient.contiguous()
      if wantsInput { inputGradient(dy, weight.floats().contiguous(), shape: shape, into: &sums[0]) }
      if wantsBias {
        let rows = dy.reshaped([-1, dy.shape.last ?? 1])
        accumulate(rows.reduced(to: [1, rows.shape[1]]).reshaped([rows.shape[1]]), into: &sums[1])
      }
    }.applying(activation)
  }

  /// `x · weightᵀ + bias` in the pieces of a training.
  static func product(_ x: Tensor, _ weight: Tensor, _ bias: Tensor?) -> Tensor {
    let (outputs, inputs) = (weight.shape[0], weight.shape[1])
    let (source, offsets) = (x.detached().contiguous(), bias?.detached().contiguous())
    let result = Tensor(uninitialized: x.shape.dropLast() + [outputs])
    GEMM.run(
      adding: false, transposeB: true, m: source.count / max(1, inputs), n: outputs, k: inputs,
      a: source.base, lda: inputs, b: weight.base, ldb: inputs, c: result.base, ldc: outputs
    ) { rows, columns in
      guard let offsets else { return }
      for row in rows {
        let target = result.base + row * outputs + columns.lowerBound
        kernels.add(target, target, offsets.base + columns.lowerBound, columns.count)
      }
    }
    keepAlive(source, weight, offsets)
    return result
  }

  /// `dx += dy · W`
  static func inputGradient(_ dy: Tensor, _ weight: Tensor, shape: [Int], into sum: inout Tensor?) {
    let (outputs, inputs) = (weight.shape[0], weight.shape[1])
    let (dx, accumulates) = target(&sum, shape: shape)
    GEMM.run(
      adding: accumulates, transposeB: false, m: dx.count / max(1, inputs), n: inputs, k: outputs, a: dy.base,
      lda: outputs, b: weight.base, ldb: inputs, c: dx.base, ldc: inputs)
    keepAlive(dy, weight)
    sum = dx
  }

  /// `dW += scale * dyᵀ · x`
  static func weightGradient(_ dy: Tensor, _ x: Tensor, scale: Float = 1, into sum: inout Tensor?) {
    let (outputs, inputs) = (dy.shape.last ?? 1, x.shape.last ?? 1)
    let (dw, accumulates) = target(&sum, shape: [outputs, inputs])
    GEMM.run(
      adding: accumulates, alpha: scale, transposeA: true, transposeB: false, m: outputs, n: inputs,
      k: x.count / max(1, inputs), a: dy.base, lda: outputs, b: x.base, ldb: inputs, c: dw.base, ldc: inputs)
    keepAlive(dy, x)
    sum = dw
  }
}
