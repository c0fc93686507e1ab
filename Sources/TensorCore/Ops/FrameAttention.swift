extension Tensor {
  /// Attention of every place of a picture to the same place in the other frames: `query`, `key` and `value`
  /// `[B, F, P, H, D]`, the result likewise. Nothing is transposed; the frames are read where they lie.
  public static func frameAttention(_ query: Tensor, _ key: Tensor, _ value: Tensor) -> Tensor {
    precondition(
      query.rank == 5 && key.shape == query.shape && value.shape == query.shape,
      "frameAttention of \(query.shape) over \(key.shape), \(value.shape)")
    let (batch, frames, places) = (query.shape[0], query.shape[1], query.shape[2])
    if query.isRecorded || key.isRecorded || value.isRecorded {
      let joined = [batch * places, frames, query.shape[3], query.shape[4]]
      let byPlace = { (x: Tensor) in x.permuted([0, 2, 1, 3, 4]).reshaped(joined) }
      return attention(byPlace(query), byPlace(key), byPlace(value))
        .reshaped([batch, places, frames, query.shape[3], query.shape[4]]).permuted([0, 2, 1, 3, 4])
    }
    let (q, k, v) = (query.contiguous(), key.contiguous(), value.contiguous())
    let result = Tensor(uninitialized: query.shape)
    for entry in 0..<batch {
      // [P, F, H, D], a view.
      let view = { (x: Tensor) in x.select(0, entry).permuted([1, 0, 2, 3]) }
      attention(view(q), view(k), view(v), into: view(result))
    }
    keepAlive(q, k, v)
    return result
  }
}
