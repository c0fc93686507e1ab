import CKernels

extension Tensor {
  /// Gradients of `attention`: those of `q`, `k`, `v` and, where the mask has one, of its key bias.
  ///
  /// The scores of a block of queries are computed again, so that they and their slopes stay in the cache; with
  /// `P = softmax(S)`: `dV = Pᵀ dO`, `dP = dO Vᵀ`, `dS = P * (dP - rowsum(dP * P))`, `dQ = dS K * scale`,
  /// `dK = dSᵀ Q * scale`, and the key bias gets the column sums of `dS`.
  static func attentionPullback(
    _ gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: ScoreMask, scale: Float
  ) -> [Tensor?] {
    let (batch, queries, heads, size) = (q.shape[0], q.shape[1], q.shape[2], q.shape[3])
    let keys = k.shape[1]
    let output = gradient.detached().contiguous()
    let (dq, dk, dv) = (
      Tensor(uninitialized: q.shape), Tensor(uninitialized: k.shape), Tensor(uninitialized: v.shape)
    )
    FlopCounter.add(10 * Double(batch * heads) * Double(queries) * Double(keys) * Double(size))
    // The key bias's sums of every head, added in order afterwards.
    let columns = mask.keyBias == nil ? nil : Tensor.zeros([batch * heads, keys])
    let scratchFloats = ck_attention_gradient_scratch(queries, keys, size)
    parallelFor(batch * heads) { unit in
      let (entry, head) = (unit / heads, unit % heads)
      func start(_ x: Tensor) -> UnsafeMutablePointer<Float> {
        x.base + entry * x.strides[0] + head * x.strides[2]
      }
      let scratch = Storage(count: scratchFloats)
      var forward = CKAttention()
      (forward.query, forward.query_stride) = (UnsafePointer(start(q)), q.strides[1])
      (forward.rows, forward.keys, forward.depth) = (queries, keys, size)
      (forward.scale, forward.scratch) = (scale, scratch.floats)
      var task = CKAttentionGradient()
      (task.key, task.key_stride) = (UnsafePointer(start(k)), k.strides[1])
      (task.value, task.value_stride) = (UnsafePointer(start(v)), v.strides[1])
      (task.gradient, task.gradient_stride) = (UnsafePointer(start(output)), output.strides[1])
      (task.query_gradient, task.query_gradient_stride) = (start(dq), dq.strides[1])
      (task.key_gradient, task.key_gradient_stride) = (start(dk), dk.strides[1])
      (task.value_gradient, task.value_gradient_stride) = (start(dv), dv.strides[1])
      task.key_bias_gradient = columns.map { $0.base + unit * keys }
      mask.with(forward, head: head, first: 0) { masked in
        task.forward = masked
        kernels.attend_gradient(&task)
      }
      keepAlive(scratch)
    }
    keepAlive(q, k, v, output, mask)
    var results: [Tensor?] = [dq, dk, dv]
    if let columns { results.append(columns.reduced(to: [1, keys]).reshaped([keys])) }
    return results
  }
}
