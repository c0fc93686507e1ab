import CKernels

extension Tensor {
  /// Rotary position embedding on interleaved pairs: `x` `[B, L, H, D]`, `cosine` and `sine` `[L, D / 2]`.
  public static func rotary(_ x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor {
    let (length, heads, size) = (x.shape[1], x.shape[2], x.shape[3])
    precondition(
      cosine.shape == [length, size / 2] && sine.shape == cosine.shape && size % 2 == 0,
      "rotary of \(x.shape) with tables \(cosine.shape), \(sine.shape)")
    let result = rotate(x.detached(), cosine, sine, heads: heads, size: size)
    // The inverse rotation carries the gradient back.
    return result.recorded(from: [x]) { gradient in
      [rotate(gradient.detached(), cosine, sine * -1, heads: heads, size: size)]
    }
  }

  private static func rotate(_ x: Tensor, _ cosine: Tensor, _ sine: Tensor, heads: Int, size: Int) -> Tensor {
    let (source, c, s) = (x.contiguous(), cosine.contiguous(), sine.contiguous())
    let result = Tensor(uninitialized: x.shape)
    let length = x.shape[1]
    let half = size / 2
    forRows(x.shape[0] * length, width: heads * size) { first, rows in
      for row in first..<first + rows {
        let angles = row % length * half
        for head in 0..<heads {
          let at = (row * heads + head) * size
          kernels.rotate(result.base + at, source.base + at, c.base + angles, s.base + angles, size)
        }
      }
    }
    return result
  }
}
