import CKernels

extension Tensor {
  /// The weights that attention gives to its keys, `softmax(q kᵀ scale + mask)`, for some queries: `query` `[B, R, H, D]`
  /// over `key` `[B, Lk, H, D]` gives `[B, H, R, Lk]`. For looking into heads; `attention` never builds it.
  public static func attentionWeights(
    _ query: Tensor, _ key: Tensor, mask: AttentionMask? = nil, scale: Float? = nil
  ) -> Tensor {
    let (batch, queries, heads, size) = (query.shape[0], query.shape[1], query.shape[2], query.shape[3])
    let keys = key.shape[1]
    precondition(
      key.shape == [batch, keys, heads, size], "attention weights of \(query.shape) over \(key.shape)")
    query.requireNoTape("attentionWeights")
    let (q, k) = (query.contiguous(), key.detached().contiguous())
    let scale = scale ?? 1 / Float(size).squareRoot()
    let scoreMask = ScoreMask(mask, heads: heads, queries: queries, keys: keys)
    let result = Tensor(uninitialized: [batch, heads, queries, keys])
    let width = heads * size
    parallelFor(batch * heads) { task in
      let (entry, head) = (task / heads, task % heads)
      let scratch = Storage(count: keys)
      let rows = result.base + task * queries * keys
      GEMM.serial(
        transposeB: true, m: queries, n: keys, k: size, a: q.base + entry * queries * width + head * size,
        lda: width, b: k.base + entry * keys * width + head * size, ldb: width, c: rows, ldc: keys)
      for row in 0..<queries {
        kernels.softmax(
          rows + row * keys, scoreMask.row(row, head: head, scratch: scratch.floats), scale, keys)
      }
      keepAlive(scratch)
    }
    keepAlive(q, k, scoreMask)
    return result
  }
}
