extension Tensor {
  /// `self + scale * (x · downᵀ) · upᵀ`: what a low-rank adapter adds to a layer's output `[…, out]`, with `x` `[…, in]`,
  /// `down` `[rank, in]` and `up` `[out, rank]`. Writes in place where nobody else holds the output.
  ///
  /// Gradients, with `h = x · downᵀ` and `dh = scale * dy · up`: `dup = scale * dyᵀ · h`, `ddown = dhᵀ · x`,
  /// `dx = dh · down`.
  package consuming func addingLowRank(_ x: Tensor, down: Tensor, up: Tensor, scale: Float) -> Tensor {
    let (rank, inputs, outputs) = (down.shape[0], down.shape[1], up.shape[0])
    precondition(
      up.shape[1] == rank && x.shape.last == inputs && shape.last == outputs
        && count / max(1, outputs) == x.count / max(1, inputs),
      "low-rank change \(up.shape) x \(down.shape) of \(x.shape) to \(shape)")
    let parent = Tensor(node: node)
    let (source, a, b) = (x.detached().contiguous(), down.detached().contiguous(), up.detached().contiguous())
    let hidden = Tensor.product(source, a, nil)
    node = nil
    var sum: Tensor? = consume self
    let (result, _) = Tensor.target(&sum, shape: Array(x.shape.dropLast()) + [outputs])
    GEMM.run(
      adding: true, alpha: scale, transposeB: true, m: hidden.count / max(1, rank), n: outputs, k: rank,
      a: hidden.base, lda: rank, b: b.base, ldb: rank, c: result.base, ldc: outputs)
    keepAlive(b)
    guard parent.isRecorded || x.isRecorded || down.isRecorded || up.isRecorded else { return result }
    let (wantsInput, wantsDown, wantsUp) = (x.isRecorded, down.isRecorded, up.isRecorded)
    return result.recorded(accumulating: [parent, x, down, up]) { gradient, sums in
      let dy = gradient.contiguous()
      if wantsUp { Tensor.weightGradient(dy, hidden, scale: scale, into: &sums[3]) }
      if wantsInput || wantsDown {
        let dh = Tensor(uninitialized: hidden.shape)
        GEMM.run(
          adding: false, alpha: scale, transposeB: false, m: dh.count / max(1, rank), n: rank, k: outputs,
          a: dy.base, lda: outputs, b: b.base, ldb: rank, c: dh.base, ldc: rank)
        keepAlive(dy, b)
        if wantsDown { Tensor.weightGradient(dh, source, into: &sums[2]) }
        if wantsInput { Tensor.inputGradient(dh, a, shape: source.shape, into: &sums[1]) }
      }
      Tensor.accumulate(dy, into: &sums[0])
    }
  }

  /// An empty value that only stands for a node among the inputs of an operation.
  private init(node: Node?) {
    self.init(storage: Tensor.nothing, shape: [0], strides: [1], offset: 0, node: node)
  }

  private static let nothing = Storage(count: 0)
}
