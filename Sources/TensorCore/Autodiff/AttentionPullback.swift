import CKernels

extension Tensor {
  /// Gradients of `attention`. The scores of a strip of queries are computed again, so that the strip and its slopes
  /// stay in the cache; with `P = softmax(S)`: `dV = Pᵀ dO`, `dP = dO Vᵀ`, `dS = P * (dP - rowsum(dP * P))`,
  /// `dQ = dS K * scale`, `dK = dSᵀ Q * scale`.
  static func attentionPullback(
    _ gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: ScoreBias, scale: Float
  ) -> [Tensor?] {
    let (batch, queries, heads, size) = (q.shape[0], q.shape[1], q.shape[2], q.shape[3])
    let keys = k.shape[1]
    let width = heads * size
    let output = gradient.contiguous()
    let (dq, dk, dv) = (
      Tensor(uninitialized: q.shape), Tensor(uninitialized: k.shape), Tensor(uninitialized: v.shape)
    )
    FlopCounter.add(10 * Double(batch * heads) * Double(queries) * Double(keys) * Double(size))
    // A head's strips follow each other: their parts of dK and dV are added in order.
    let strip = max(16, min(queries, 32768 / max(1, keys) & ~15))
    parallelFor(batch * heads) { task in
      let (entry, head) = (task / heads, task % heads)
      let kAt = entry * keys * width + head * size
      let (p, ds) = (Storage(count: strip * keys), Storage(count: strip * keys))
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
          let weights = p.floats + row * keys
          kernels.softmax(weights, mask.row(first + row, head: head), scale, keys)
          kernels.gradient.softmax(ds.floats + row * keys, weights, scale, keys)
        }
        GEMM.serial(
          transposeA: true, transposeB: false, m: keys, n: size, k: rows, a: p.floats, lda: keys,
          b: output.base + qAt, ldb: width, beta: beta, c: dv.base + kAt, ldc: width)
        GEMM.serial(
          transposeB: false, m: rows, n: size, k: keys, a: ds.floats, lda: keys, b: k.base + kAt, ldb: width,
          c: dq.base + qAt, ldc: width)
        GEMM.serial(
          transposeA: true, transposeB: false, m: keys, n: size, k: rows, a: ds.floats, lda: keys,
          b: q.base + qAt, ldb: width, beta: beta, c: dk.base + kAt, ldc: width)
      }
      keepAlive(p, ds)
    }
    keepAlive(q, k, v, output, mask)
    return [dq, dk, dv]
  }
}
