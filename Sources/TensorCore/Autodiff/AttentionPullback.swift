import CKernels

extension Tensor {
  /// Gradients of `attention`: those of `q`, `k`, `v` and, where the mask has one, of its key bias.
  ///
  /// The scores of a strip of queries are computed again, so that the strip and its slopes stay in the cache; with
  /// `P = softmax(S)`: `dV = Pᵀ dO`, `dP = dO Vᵀ`, `dS = P * (dP - rowsum(dP * P))`, `dQ = dS K * scale`,
  /// `dK = dSᵀ Q * scale`, and the key bias gets the column sums of `dS`.
  static func attentionPullback(
    _ gradient: Tensor, q query: Tensor, k key: Tensor, v value: Tensor, mask: ScoreMask, scale: Float
  ) -> [Tensor?] {
    let (q, k, v) = (query.contiguous(), key.contiguous(), value.contiguous())
    let (batch, queries, heads, size) = (q.shape[0], q.shape[1], q.shape[2], q.shape[3])
    let keys = k.shape[1]
    let width = heads * size
    let output = gradient.detached().contiguous()
    let (dq, dk, dv) = (
      Tensor(uninitialized: q.shape), Tensor(uninitialized: k.shape), Tensor(uninitialized: v.shape)
    )
    FlopCounter.add(10 * Double(batch * heads) * Double(queries) * Double(keys) * Double(size))
    // The key bias's sums of every head, added in order afterwards.
    let columns = mask.keyBias == nil ? nil : Tensor.zeros([batch * heads, keys])
    // A head's strips follow each other: their parts of dK and dV are added in order.
    let strip = max(16, min(queries, 32768 / max(1, keys) & ~15))
    parallelFor(batch * heads) { task in
      let (entry, head) = (task / heads, task % heads)
      let kAt = entry * keys * width + head * size
      let (p, ds, scratch) = (
        Storage(count: strip * keys), Storage(count: strip * keys), Storage(count: keys)
      )
      for first in stride(from: 0, to: queries, by: strip) {
        let rows = min(strip, queries - first)
        let qAt = (entry * queries + first) * width + head * size
        let beta: Float = first == 0 ? 0 : 1
        GEMM.serial(
          transposeB: true, m: rows, n: keys, k: size, a: q.base + qAt, lda: width, b: k.base + kAt,
          ldb: width, c: p.floats, ldc: keys)
        GEMM.serial(
          transposeB: true, m: rows, n: keys, k: size, a: output.base + qAt, lda: width, b: v.base + kAt,
          ldb: width, c: ds.floats, ldc: keys)
        for row in 0..<rows {
          let (weights, slopes) = (p.floats + row * keys, ds.floats + row * keys)
          kernels.softmax(
            weights, mask.row(first + row, head: head, scratch: scratch.floats), scale, keys)
          kernels.gradient.softmax(slopes, weights, 1, keys)
          if let columns { kernels.add(columns.base + task * keys, columns.base + task * keys, slopes, keys) }
        }
        GEMM.serial(
          transposeA: true, transposeB: false, m: keys, n: size, k: rows, a: p.floats, lda: keys,
          b: output.base + qAt, ldb: width, beta: beta, c: dv.base + kAt, ldc: width)
        GEMM.serial(
          transposeB: false, m: rows, n: size, k: keys, alpha: scale, a: ds.floats, lda: keys,
          b: k.base + kAt, ldb: width, c: dq.base + qAt, ldc: width)
        GEMM.serial(
          transposeA: true, transposeB: false, m: keys, n: size, k: rows, alpha: scale, a: ds.floats,
          lda: keys, b: q.base + qAt, ldb: width, beta: beta, c: dk.base + kAt, ldc: width)
      }
      keepAlive(p, ds, scratch)
    }
    keepAlive(q, k, v, output, mask)
    var results: [Tensor?] = [dq, dk, dv]
    if let columns { results.append(columns.reduced(to: [1, keys]).reshaped([keys])) }
    return results
  }
}
