import CKernels

/// What a linear layer does to its product, applied to pieces of the result while they are in the cache:
/// `residual + gate * activation(product + bias)`.
struct LinearFinish {
  /// `[n]`
  var bias: Tensor?
  var activation: Activation
  /// `[…, n]`, contiguous.
  var residual: Tensor?
  /// `[B, n]`, contiguous; a row for each `rowsPerGate` rows of the result.
  var gate: Tensor?
  var rowsPerGate: Int

  /// Bias and activation, and then the residual, of a piece of a result of `width` columns.
  func callAsFunction(
    _ result: UnsafeMutablePointer<Float>, width: Int, rows: Range<Int>, columns: Range<Int>
  ) {
    for row in rows {
      let target = result + row * width + columns.lowerBound
      if let bias { kernels.add(target, target, bias.base + columns.lowerBound, columns.count) }
      activation.apply(target, columns.count)
      add(target, width: width, row: row, columns: columns)
    }
  }

  /// The residual alone, for products that apply bias and activation themselves.
  func add(_ target: UnsafeMutablePointer<Float>, width: Int, row: Int, columns: Range<Int>) {
    guard let residual else { return }
    let before = residual.base + row * width + columns.lowerBound
    if let gate {
      kernels.add_gated(
        target, before, target, gate.base + row / rowsPerGate * width + columns.lowerBound, columns.count)
    } else {
      kernels.add(target, before, target, columns.count)
    }
  }
}

extension Activation {
  /// The number of this function in the kernel table.
  var code: Int32 {
    switch self {
    case .identity: Int32(CK_IDENTITY)
    case .relu: Int32(CK_RELU)
    case .silu: Int32(CK_SILU)
    case .geluTanh: Int32(CK_GELU_TANH)
    }
  }
}
