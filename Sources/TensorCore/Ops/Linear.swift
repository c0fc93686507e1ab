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
    let inputsOfTape = [x, weight] + (bias.map { [$0] } ?? [])
    guard inputsOfTape.contains(where: \.isRecorded) else { return result }
    if case .identity = activation {
    } else {
      preconditionFailure("linear with an activation has no gradient rule")
    }
    let wantsWeight = weight.isRecorded
    return result.recorded(from: inputsOfTape) { gradient in
      linearPullback(gradient, x: source, weight: matrix, wantsWeight: wantsWeight, hasBias: offsets != nil)
    }
  }

  /// Gradients of `linear`: `dx = dy · W`, `dW = dyᵀ · x`, `db = Σ dy`.
  private static func linearPullback(
    _ gradient: Tensor, x: Tensor, weight: Tensor, wantsWeight: Bool, hasBias: Bool
  ) -> [Tensor?] {
    let (outputs, inputs) = (weight.shape[0], weight.shape[1])
    let rows = x.count / max(1, inputs)
    let dy = gradient.detached().contiguous()
    let dx = Tensor(uninitialized: x.shape)
    GEMM.run(
      transposeB: false, m: rows, n: inputs, k: outputs, a: dy.base, lda: outputs, b: .floats(weight.base),
      ldb: inputs, c: dx.base, ldc: inputs)
    var results: [Tensor?] = [dx, nil]
    if wantsWeight {
      let dw = Tensor(uninitialized: weight.shape)
      GEMM.run(
        transposeA: true, transposeB: false, m: outputs, n: inputs, k: rows, a: dy.base, lda: outputs,
        b: .floats(x.base), ldb: inputs, c: dw.base, ldc: inputs)
      results[1] = dw
    }
    if hasBias {
      results.append(dy.reshaped([rows, outputs]).reduced(to: [1, outputs]).reshaped([outputs]))
    }
    keepAlive(dy, x, weight)
    return results
  }
}
