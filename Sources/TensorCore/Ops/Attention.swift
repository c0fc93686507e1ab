import CKernels

extension Tensor {
  /// Scaled dot-product attention of `query` `[B, Lq, H, D]` over `key` and `value` `[B, Lk, H, D]`, result
  /// `[B, Lq, H, D]`. Scores are scaled by `1/√D` unless `scale` says otherwise, then `mask` is added.
  ///
  /// Blocks of queries pass over blocks of keys with a running softmax: no row of scores longer than a block is built. Keys
  /// and values are packed once per head; any layout with adjacent channels is read in place.
  public static func attention(
    _ query: Tensor, _ key: Tensor, _ value: Tensor, mask: AttentionMask?, scale: Float? = nil
  ) -> Tensor {
    let (batch, queries, heads, size) = (query.shape[0], query.shape[1], query.shape[2], query.shape[3])
    let keys = key.shape[1]
    precondition(
      key.shape == [batch, keys, heads, size] && value.shape == key.shape,
      "attention of \(query.shape) over \(key.shape), \(value.shape)")
    let (q, k, v) = (query.channelsAdjacent(), key.channelsAdjacent(), value.channelsAdjacent())
    let scale = scale ?? 1 / Float(size).squareRoot()
    let scoreMask = ScoreMask(mask, heads: heads, queries: queries, keys: keys)
    let result = Tensor(uninitialized: query.shape)
    FlopCounter.add(4 * Double(batch * heads) * Double(queries) * Double(keys) * Double(size))
    let plan = AttentionPlan(q: q, k: k, v: v, result: result, mask: scoreMask, scale: scale)
    plan.run()
    keepAlive(q, k, v, result, scoreMask)
    let keyBias = mask?.keyBias
    return result.recorded(from: [query, key, value] + (keyBias.map { [$0] } ?? [])) { gradient in
      attentionPullback(gradient, q: q, k: k, v: v, mask: scoreMask, scale: scale)
    }
  }

  /// The same with a bias alone: `bias` `[Lq, Lk]` or `[H, Lq, Lk]`, or `relativeBias` `[H, Lq + Lk - 1]` (see
  /// `AttentionMask`).
  public static func attention(
    _ query: Tensor, _ key: Tensor, _ value: Tensor, bias: Tensor? = nil, relativeBias: Tensor? = nil,
    scale: Float? = nil
  ) -> Tensor {
    let isPlain = bias == nil && relativeBias == nil
    return attention(
      query, key, value, mask: isPlain ? nil : AttentionMask(bias: bias, relativeBias: relativeBias),
      scale: scale)
  }

  /// Writes the attention of views with adjacent channels into a view of a new tensor.
  static func attention(_ query: Tensor, _ key: Tensor, _ value: Tensor, into result: Tensor) {
    let (batch, queries, heads, size) = (query.shape[0], query.shape[1], query.shape[2], query.shape[3])
    let keys = key.shape[1]
    FlopCounter.add(4 * Double(batch * heads) * Double(queries) * Double(keys) * Double(size))
    AttentionPlan(
      q: query, k: key, v: value, result: result,
      mask: ScoreMask(nil, heads: heads, queries: queries, keys: keys), scale: 1 / Float(size).squareRoot()
    ).run()
    keepAlive(query, key, value, result)
  }

  /// This tensor where the last dimension has no gaps, else a contiguous copy.
  private func channelsAdjacent() -> Tensor {
    strides.last == 1 || shape.last == 1 ? detached() : detached().contiguous()
  }
}

/// How one attention is cut into tasks: by its shape alone.
private struct AttentionPlan {
  let q, k, v, result: Tensor
  let mask: ScoreMask
  let scale: Float
  private let heads: Int
  private let queries: Int
  private let keys: Int
  private let size: Int
  private let units: Int
  private let tile: Int

  init(q: Tensor, k: Tensor, v: Tensor, result: Tensor, mask: ScoreMask, scale: Float) {
    (self.q, self.k, self.v, self.result, self.mask, self.scale) = (q, k, v, result, mask, scale)
    (queries, heads, size, keys) = (q.shape[1], q.shape[2], q.shape[3], k.shape[1])
    units = q.shape[0] * heads
    tile = min(queries, Int(CK_QUERY_BLOCK))
  }

  private var keyFloats: Int { ck_packed_keys(keys) * size }
  private var valueFloats: Int { keys * ck_packed_keys(size) }
  private var scratchFloats: Int { ck_attention_scratch(tile, keys, size) }

  func run() {
    guard queries > 0, units > 0 else { return }
    if queries <= tile { return runSmall() }
    let packed = Storage(count: units * (keyFloats + valueFloats))
    parallelFor(2 * units) { task in
      let unit = task / 2
      pack(unit, into: packed.floats + unit * (keyFloats + valueFloats), keys: task % 2 == 0)
    }
    let tiles = (queries + tile - 1) / tile
    parallelFor(units * tiles) { task in
      let (unit, first) = (task / tiles, task % tiles * tile)
      let scratch = Storage(count: scratchFloats)
      attend(unit, packed.floats + unit * (keyFloats + valueFloats), scratch.floats, first: first)
      keepAlive(scratch)
    }
    keepAlive(packed)
  }

  /// One block of queries per head: heads are packed and done by one task, several where they are small.
  private func runSmall() {
    let perTask = max(1, 2_000_000 / max(1, 4 * queries * keys * size))
    parallelFor((units + perTask - 1) / perTask) { task in
      let packed = Storage(count: keyFloats + valueFloats + scratchFloats)
      for unit in task * perTask..<min(units, (task + 1) * perTask) {
        pack(unit, into: packed.floats, keys: true)
        pack(unit, into: packed.floats, keys: false)
        attend(unit, packed.floats, packed.floats + keyFloats + valueFloats, first: 0)
      }
      keepAlive(packed)
    }
  }

  private func start(_ x: Tensor, _ unit: Int) -> UnsafeMutablePointer<Float> {
    x.base + unit / heads * x.strides[0] + unit % heads * x.strides[2]
  }

  private func pack(_ unit: Int, into packed: UnsafeMutablePointer<Float>, keys isKeys: Bool) {
    if isKeys {
      kernels.pack_keys(packed, start(k, unit), k.strides[1], keys, size)
    } else {
      kernels.pack_values(packed + keyFloats, start(v, unit), v.strides[1], keys, size)
    }
  }

  private func attend(
    _ unit: Int, _ packed: UnsafeMutablePointer<Float>, _ scratch: UnsafeMutablePointer<Float>, first: Int
  ) {
    var task = CKAttention()
    task.query = UnsafePointer(start(q, unit) + first * q.strides[1])
    task.query_stride = q.strides[1]
    task.keys_packed = UnsafePointer(packed)
    task.values_packed = UnsafePointer(packed + keyFloats)
    task.out = start(result, unit) + first * result.strides[1]
    task.out_stride = result.strides[1]
    task.rows = min(tile, queries - first)
    task.keys = keys
    task.depth = size
    task.scale = scale
    task.scratch = scratch
    mask.with(task, head: unit % heads, first: first) { kernels.attend(&$0) }
  }
}
