import CKernels

extension Tensor {
  /// The gradient of `rmsNormRotary` for `x` `[B, L, H * D]`, from that of the turned heads `[B, L, H, D]`: they are turned
  /// back, and then `dx = inv * (g - n * mean(g * n))` with `n = x * inv` and `g = dy * weight`.
  static func normRotaryGradient(
    _ gradient: Tensor, _ x: Tensor, _ weight: Tensor, eps: Float, cosine: Tensor?, sine: Tensor?,
    into sum: inout Tensor?
  ) {
    let (length, width, size) = (x.shape[1], x.shape[2], gradient.shape[3])
    let dy = gradient.contiguous()
    let back = sine.map { $0 * -1 }
    let (dx, accumulates) = target(&sum, shape: x.shape)
    let (input, slopes, output, gains) = (x.base, dy.base, dx.base, weight.base)
    let (cosines, sines) = (cosine?.base, back?.base)
    forRows(x.count / max(1, width), width: width) { first, rows in
      let turned = Storage(count: width)
      let scratch = turned.floats
      for row in first..<first + rows {
        let from = input + row * width
        let inverse = 1 / (kernels.sum_squares(from, 0, width) / Float(width) + eps).squareRoot()
        var upstream = UnsafePointer(slopes + row * width)
        if let cosines, let sines {
          let angles = row % length * (size / 2)
          for head in stride(from: 0, to: width, by: size) {
            kernels.rotate(scratch + head, upstream + head, cosines + angles, sines + angles, size)
          }
          upstream = UnsafePointer(scratch)
        }
        kernels.gradient.norm(
          output + row * width, upstream, from, 0, inverse, gains, 0, 0, accumulates ? 1 : 0, width)
      }
      keepAlive(turned)
    }
    keepAlive(dy, x, weight, cosine, back)
    sum = dx
  }
}
