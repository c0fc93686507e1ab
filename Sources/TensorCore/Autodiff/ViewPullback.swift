extension Tensor {
  /// Records this view of a part of `whole`: its gradient is zero elsewhere.
  func recorded(narrowing whole: Tensor, _ axis: Int, from start: Int) -> Tensor {
    guard whole.isRecorded else { return self }
    let (shape, length) = (whole.shape, self.shape[axis])
    return detached().recorded(accumulating: [whole]) { gradient, sums in
      var (target, accumulates) = Tensor.target(&sums[0], shape: shape)
      if !accumulates { target = Tensor.zeros(shape) }
      let part = gradient.contiguous()
      let inner = shape[(axis + 1)...].reduce(1, *)
      for outer in 0..<shape[..<axis].reduce(1, *) {
        let to = target.base + (outer * shape[axis] + start) * inner
        let from = part.base + outer * length * inner
        for index in 0..<length * inner { to[index] += from[index] }
      }
      keepAlive(part)
      sums[0] = target
    }
  }

  /// Records this concatenation: each part gets its own piece of the gradient.
  func recorded(joining parts: [Tensor], axis: Int) -> Tensor {
    let pieces = parts.map { (length: $0.shape[axis], isWanted: $0.isRecorded) }
    return recorded(from: parts) { gradient in
      var start = 0
      return pieces.map { piece in
        defer { start += piece.length }
        return piece.isWanted
          ? gradient.narrow(axis, from: start, length: piece.length).contiguous() : nil
      }
    }
  }
}
