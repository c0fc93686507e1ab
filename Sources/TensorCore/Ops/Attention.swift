import CKernels

extension Tensor {
  /// Scaled dot-product attention of `query` `[B, Lq, H, D]` over `key` and `value` `[B, Lk, H, D]`, result
  /// `[B, Lq, H, D]`. `bias` `[Lq, Lk]` is added to the scaled scores of every head (-infinity hides a key), or
  /// `relativeBias` `[H, Lq + Lk - 1]`, which has one value per head and distance: query `i` and key `j` get the
  /// one at `j - i + Lq - 1`. Scores are scaled by `1/√D` unless `scale` says otherwise.
  ///
  /// One tile of scores at a time: the `Lq` by `Lk` matrix is never built.
  public static func attention(
    _ query: Tensor, _ key: Tensor, _ value: Tensor, bias: Tensor? = nil, relativeBias: Tensor? = nil,
    scale: Float? = nil
  ) -> Tensor {
    let (batch, queries, heads, size) = (query.shape[0], query.shape[1], query.shape[2], query.shape[3])
    let keys = key.shape[1]
    precondition(
      key.shape == [batch, keys, heads, size] && value.shape == key.shape,
      "attention of \(query.shape) over \(key.shape), \(value.shape)")
    let (q, k, v) = (
      query.detached().contiguous(), key.detached().contiguous(), value.detached().contiguous()
    )
    let scale = scale ?? 1 / Float(size).squareRoot()
    let mask = ScoreBias(bias, relative: relativeBias, heads: heads, queries: queries, keys: keys)
    let result = Tensor(uninitialized: query.shape)
    FlopCounter.add(4 * Double(batch * heads) * Double(queries) * Double(keys) * Double(size))
    let width = heads * size
    let tile = min(queries, 64)
    let tiles = (queries + tile - 1) / tile
    parallelFor(batch * heads * tiles) { task in
      let (entry, head, first) = (task / tiles / heads, task / tiles % heads, task % tiles * tile)
      let rows = min(tile, queries - first)
      let scores = Storage(count: rows * keys)
      let column = head * size
      let keyStart = entry * keys * width + column
      let queryStart = (entry * queries + first) * width + column
      GEMM.serial(
        transposeB: true, m: rows, n: keys, k: size, a: q.base + queryStart, lda: width, b: k.base + keyStart,
        ldb: width, c: scores.floats, ldc: keys)
      for row in 0..<rows {
        kernels.softmax(scores.floats + row * keys, mask.row(first + row, head: head), scale, keys)
      }
      GEMM.serial(
        transposeB: false, m: rows, n: size, k: keys, a: scores.floats, lda: keys, b: v.base + keyStart,
        ldb: width,
        c: result.base + queryStart, ldc: width)
      keepAlive(scores)
    }
    keepAlive(q, k, v, mask)
    return result.recorded(from: [query, key, value]) { gradient in
      attentionPullback(gradient, q: q, k: k, v: v, mask: mask, scale: scale)
    }
  }
}

/// What is added to the scores before the softmax; no gradient reaches it.
struct ScoreBias: Sendable {
  private let table: Tensor?
  private let headStride: Int
  private let rowStride: Int
  private let start: Int

  init(_ bias: Tensor?, relative: Tensor?, heads: Int, queries: Int, keys: Int) {
    precondition(
      bias == nil || bias?.shape == [queries, keys], "bias \(bias?.shape ?? []) of \(queries) x \(keys)")
    precondition(
      relative == nil || bias == nil && relative?.shape == [heads, queries + keys - 1],
      "relative bias \(relative?.shape ?? []) of \(heads) heads, \(queries) x \(keys)")
    table = (relative ?? bias)?.detached().contiguous()
    // The values of one query lie side by side in both; the next query's start one place earlier when relative.
    headStride = relative == nil ? 0 : queries + keys - 1
    rowStride = relative == nil ? keys : -1
    start = relative == nil ? 0 : queries - 1
  }

  /// The values for one query, `keys` of them.
  func row(_ query: Int, head: Int) -> UnsafePointer<Float>? {
    table.map { UnsafePointer($0.base + start + head * headStride + query * rowStride) }
  }
}
