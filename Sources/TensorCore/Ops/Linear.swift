import CKernels

extension Tensor {
  /// `activation(x · weightᵀ + bias)`: `x` is `[…, in]`, `weight` `[out, in]`, `bias` `[out]`.
  ///
  /// Gradients reach `x`, `weight` and `bias` (the latter two only when they are recorded).
  public static func linear(
    _ x: Tensor, weight: Tensor, bias: Tensor? = nil, activation: Activation = .identity
  ) -> Tensor {
    precondition(
      weight.rank == 2 && x.shape.last == weight.shape[1], "linear of \(x.shape) with weight \(weight.shape)")
    precondition(
      bias == nil || bias?.shape == [weight.shape[0]], "bias \(bias?.shape ?? []) of \(weight.shape)")
    let (outputs, inputs) = (weight.shape[0], weight.shape[1])
    if x.isRecorded || weight.isRecorded || bias?.isRecorded == true {
      return linearRecorded(x, weight: weight, bias: bias, activation: activation)
    }
    let source = x.detached().contiguous()
    let matrix = weight.detached().contiguous()
    let offsets = bias?.detached().contiguous()
    let rows = x.count / max(1, inputs)
    let result = Tensor(uninitialized: x.shape.dropLast() + [outputs])
    GEMM.run(
      transposeB: true, m: rows, n: outputs, k: inputs, a: source.base, lda: inputs, b: .floats(matrix.base),
      ldb: inputs, c: result.base, ldc: outputs
    ) { rowRange, columns in
      for row in rowRange {
        let target = result.base + row * outputs + columns.lowerBound
        if let offsets { kernels.add(target, target, offsets.base + columns.lowerBound, columns.count) }
        activation.apply(target, columns.count)
      }
    }
    keepAlive(source, matrix, offsets)
    return result
  }
}
