import CKernels

extension Tensor {
  /// Records a norm over the last dimension. With `n = (x - mean) * inv` and `g = dy * weight`:
  /// `dx = inv * (g - [mean(g)] - n * mean(g * n))`, `dweight = Σ dy * n`, `dbias = Σ dy`.
  static func recordNorm(
    _ result: Tensor, x: Tensor, weight: Tensor?, bias: Tensor?, mean: Bool, eps: Float
  ) -> Tensor {
    let inputs = [x] + [weight, bias].compactMap(\.self)
    guard inputs.contains(where: \.isRecorded) else { return result }
    let (source, factors) = (x.detached().contiguous(), weight?.detached().contiguous())
    let (wantsInput, wantsWeight) = (x.isRecorded, weight?.isRecorded == true)
    let biasIndex = bias?.isRecorded == true ? inputs.count - 1 : nil
    return result.recorded(accumulating: inputs) { gradient, sums in
      let dy = gradient.contiguous()
      let width = source.shape.last ?? 1
      if wantsInput {
        normGradient(dy, source, factors: factors, plus: 0, length: 0, mean: mean, eps: eps, into: &sums[0])
      }
      let rows = [source.count / max(1, width), width]
      if wantsWeight {
        let normal = mean ? layerNorm(source, eps: eps) : rmsNorm(source, eps: eps)
        accumulate(
          (dy * normal).reshaped(rows).reduced(to: [1, width]).reshaped([width]), into: &sums[1])
      }
      if let biasIndex {
        accumulate(dy.reshaped(rows).reduced(to: [1, width]).reshaped([width]), into: &sums[biasIndex])
      }
    }
  }

  /// `layerNormModulated` with a record: one pass forward and one back.
  static func modulatedRecorded(_ x: Tensor, scale: Tensor, shift: Tensor, eps: Float) -> Tensor {
    let (source, factors) = (x.detached().contiguous(), scale.detached().contiguous())
    let result = layerNormModulated(source, scale: factors, shift: shift.detached(), eps: eps)
    let (wantsInput, wantsScale, wantsShift) = (x.isRecorded, scale.isRecorded, shift.isRecorded)
    return result.recorded(accumulating: [x, scale, shift]) { gradient, sums in
      let dy = gradient.contiguous()
      if wantsInput {
        normGradient(
          dy, source, factors: factors, plus: 1, length: source.shape[1], mean: true, eps: eps, into: &sums[0]
        )
      }
      if wantsScale {
        accumulate((dy * layerNorm(source, eps: eps)).reduced(to: factors.shape), into: &sums[1])
      }
      if wantsShift { accumulate(dy.reduced(to: factors.shape), into: &sums[2]) }
    }
  }

  /// `dx` of a norm whose result is multiplied by `plus + factors`: one row of factors for all, or with `length` one
  /// for every so many rows.
  private static func normGradient(
    _ dy: Tensor, _ x: Tensor, factors: Tensor?, plus: Float, length: Int, mean: Bool, eps: Float,
    into sum: inout Tensor?
  ) {
    let width = x.shape.last ?? 1
    let (dx, accumulates) = target(&sum, shape: x.shape)
    let (input, slopes, output, gains) = (x.base, dy.base, dx.base, factors?.base)
    forRows(x.count / max(1, width), width: width) { first, count in
      for row in first..<first + count {
        let at = row * width
        let (average, inverse) = statistics(input + at, width, mean: mean, eps: eps)
        let weight = gains.map { $0 + (length > 0 ? row / length * width : 0) }
        kernels.gradient.norm(
          output + at, slopes + at, input + at, average, inverse, weight, plus, mean ? 1 : 0,
          accumulates ? 1 : 0, width)
      }
    }
    keepAlive(dy, x, factors)
    sum = dx
  }
}
