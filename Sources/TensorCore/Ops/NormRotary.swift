import CKernels

extension Tensor {
  /// `rotary(rmsNorm(x))` of tokens `[B, L, H * D]` as heads `[B, L, H, D]`, in one pass: the norm over all heads, then
  /// interleaved pairs turned by `cosine` and `sine` `[L, D / 2]` where given. Heads lie one behind the other in memory,
  /// as attention reads them.
  public static func rmsNormRotary(
    _ x: Tensor, weight: Tensor, eps: Float, heads: Int, cosine: Tensor? = nil, sine: Tensor? = nil
  ) -> Tensor {
    let (batch, length, width) = (x.shape[0], x.shape[1], x.shape[2])
    let size = width / heads
    precondition(
      weight.shape == [width] && size * heads == width && (cosine == nil) == (sine == nil),
      "rmsNormRotary of \(x.shape) with weight \(weight.shape) in \(heads) heads")
    // The norm's own weight learns only where a method trains norms.
    if weight.isRecorded {
      let normal = rmsNorm(x, weight: weight, eps: eps).reshaped([batch, length, heads, size])
      guard let cosine, let sine else { return normal }
      return rotary(normal, cosine: cosine, sine: sine)
    }
    precondition(
      cosine == nil || cosine?.shape == [length, size / 2] && sine?.shape == cosine?.shape && size % 2 == 0,
      "rotary of \(x.shape) in \(heads) heads with tables \(cosine?.shape ?? []), \(sine?.shape ?? [])")
    let (source, factors) = (x.detached().contiguous(), weight.contiguous())
    let (c, s) = (cosine?.detached().contiguous(), sine?.detached().contiguous())
    let result = Tensor(uninitialized: [batch, heads, length, size])
    let (input, output, gains) = (source.base, result.base, factors.base)
    let (cosines, sines) = (c?.base, s?.base)
    forRows(batch * length, width: width) { first, rows in
      let normal = Storage(count: size)
      let scratch = normal.floats
      for row in first..<first + rows {
        let from = input + row * width
        let inverse = 1 / (kernels.sum_squares(from, 0, width) / Float(width) + eps).squareRoot()
        let (entry, position) = (row / length, row % length)
        for head in 0..<heads {
          let to = output + ((entry * heads + head) * length + position) * size
          guard let cosines, let sines else {
            kernels.normalize(to, from + head * size, 0, inverse, gains + head * size, nil, size)
            continue
          }
          kernels.normalize(scratch, from + head * size, 0, inverse, gains + head * size, nil, size)
          kernels.rotate(to, scratch, cosines + position * size / 2, sines + position * size / 2, size)
        }
      }
      keepAlive(normal)
    }
    keepAlive(source, factors, c, s)
    return result.permuted([0, 2, 1, 3]).recorded(accumulating: [x]) { gradient, sums in
      normRotaryGradient(gradient, source, factors, eps: eps, cosine: c, sine: s, into: &sums[0])
    }
  }
}
