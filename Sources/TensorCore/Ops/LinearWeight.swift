extension Tensor {
  /// `residual + gate * activation(x · weightᵀ + bias)` with a weight `[out, in]` in any of its formats; `x` is
  /// `[…, in]`, `bias` `[out]`, `residual` `[…, out]` as the result, `gate` `[B, 1, out]` for a result `[B, L, out]`.
  ///
  /// The number format of the weight decides the arithmetic (`Weight.converted(to:)`). What follows the product is done
  /// on each piece of the result while it is in the cache.
  public static func linear(
    _ x: Tensor, weight: Weight, bias: Tensor? = nil, activation: Activation = .identity,
    residual: Tensor? = nil, gate: Tensor? = nil
  ) -> Tensor {
    precondition(
      weight.shape.count == 2 && x.shape.last == weight.shape[1],
      "linear of \(x.shape) with weight \(weight.shape)")
    let (outputs, inputs) = (weight.shape[0], weight.shape[1])
    let shape: [Int] = x.shape.dropLast() + [outputs]
    precondition(bias == nil || bias?.shape == [outputs], "bias \(bias?.shape ?? []) of \(weight.shape)")
    precondition(residual == nil || residual?.shape == shape, "residual \(residual?.shape ?? []) of \(shape)")
    precondition(
      gate == nil || (residual != nil && shape.count == 3 && gate?.shape == [shape[0], 1, outputs]),
      "gate \(gate?.shape ?? []) of \(shape)")
    if let matrix = weight.panels,
      let result = linear(
        x, panels: matrix, bias: bias, activation: activation, residual: residual, gate: gate)
    {
      return result
    }
    var tensors = [x]
    for tensor in [bias, residual, gate] { if let tensor { tensors.append(tensor) } }
    if case .floats(let matrix) = weight.values { tensors.append(matrix) }
    if tensors.contains(where: \.isRecorded) {
      let result: Tensor
      if case .floats(let matrix) = weight.values {
        result = linear(x, weight: matrix, bias: bias, activation: activation)
      } else if x.isRecorded || bias?.isRecorded == true {
        result = linearRecorded(x, weight: weight, bias: bias, activation: activation)
      } else {
        result = linear(x, weight: weight, bias: bias, activation: activation)
      }
      guard let residual else { return result }
      return gate.map { gatedAdd(residual, result, gate: $0) } ?? residual + result
    }
    let source = x.contiguous()
    let finish = LinearFinish(
      bias: bias?.contiguous(), activation: activation, residual: residual?.contiguous(),
      gate: gate?.contiguous(), rowsPerGate: shape.count == 3 ? shape[1] : 1)
    let result = Tensor(uninitialized: shape)
    result.fill(product: source, weight, rows: x.count / max(1, inputs), finish)
    keepAlive(source, finish)
    return result
  }

  /// `residual + output(geglu(projection(x)))`, the feed-forward of a transformer block: `x` and `residual` are `[…, D]`,
  /// `projection` has a weight `[2 n, D]`, `output` one `[D, n]`.
  ///
  /// Done for some tokens at a time, whose inner values stay in a cache and take no memory to speak of.
  public static func gatedFeedForward(
    _ x: Tensor, projection: (weight: Weight, bias: Tensor?), output: (weight: Weight, bias: Tensor?),
    residual: Tensor
  ) -> Tensor {
    let (width, outputs) = (x.shape.last ?? 1, output.weight.shape[0])
    precondition(
      residual.shape == x.shape.dropLast() + [outputs]
        && projection.weight.shape[0] == 2 * output.weight.shape[1],
      "feed-forward of \(x.shape) onto \(residual.shape) with \(projection.weight.shape), \(output.weight.shape)"
    )
    if x.isRecorded || residual.isRecorded {
      let inner = linear(x, weight: projection.weight, bias: projection.bias).geglu()
      return linear(inner, weight: output.weight, bias: output.bias, residual: residual)
    }
    let rows = x.count / max(1, width)
    let (source, before) = (
      x.contiguous().reshaped([rows, width]), residual.contiguous().reshaped([rows, outputs])
    )
    let result = Tensor(uninitialized: [rows, outputs])
    let bias = output.bias?.contiguous()
    for first in stride(from: 0, to: rows, by: feedForwardRows) {
      let count = min(feedForwardRows, rows - first)
      let inner = linear(
        source.narrow(0, from: first, length: count), weight: projection.weight, bias: projection.bias
      ).geglu()
      let finish = LinearFinish(
        bias: bias, activation: .identity, residual: before.narrow(0, from: first, length: count), gate: nil,
        rowsPerGate: 1)
      result.narrow(0, from: first, length: count).fill(
        product: inner, output.weight, rows: count, finish)
      keepAlive(inner, finish)
    }
    return result.reshaped(residual.shape)
  }

  /// Tokens that pass a feed-forward together: two of the largest pieces of a product.
  private static var feedForwardRows: Int { 1536 }

  /// Writes the product of `rows` rows of `x` with a weight.
  private func fill(product x: Tensor, _ weight: Weight, rows: Int, _ finish: LinearFinish) {
    let (outputs, inputs) = (weight.shape[0], weight.shape[1])
    func multiply(_ operand: GEMM.Operand) {
      GEMM.run(
        transposeB: true, m: rows, n: outputs, k: inputs, a: x.base, lda: inputs, b: operand, ldb: inputs,
        c: base, ldc: outputs
      ) { finish(base, width: outputs, rows: $0, columns: $1) }
    }
    switch weight.values {
    case .floats(let matrix):
      let dense = matrix.contiguous()
      multiply(.floats(dense.base))
      keepAlive(dense)
    case .halves(let storage, let format):
      multiply(.halves(storage.floats, format))
      keepAlive(storage)
    case .brain(let matrix):
      let done = matrix.multiply(m: rows, to: base) { rows, target in
        HalfConversion.floatToBFloat16(
          x.base + rows.lowerBound * inputs, target, count: rows.count * inputs)
      } finish: {
        finish(base, width: outputs, rows: $0, columns: 0..<outputs)
      }
      if done { return }
      let plain = matrix.plain()
      multiply(.halves(plain.floats, .bfloat16))
      keepAlive(plain)
    case .integers(let product): product.run(x.base, m: rows, to: base, finish: finish)
    }
  }
}
