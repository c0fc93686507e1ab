import CKernels

extension Tensor {
  /// Layer normalisation over the last dimension with optional affine `weight` and `bias` `[D]`.
  public static func layerNorm(_ x: Tensor, weight: Tensor? = nil, bias: Tensor? = nil, eps: Float) -> Tensor
  {
    let normalized = normalize(x, mean: true, eps: eps, weight: weight, bias: bias, name: "layerNorm")
    return recordNorm(normalized, x: x, weight: weight, bias: bias, mean: true, eps: eps)
  }

  /// Layer normalisation of frames `[B, F, …, D]` over the last dimension with `weight` `[D]` and a row of `biases`
  /// `[F, D]` for each frame: positions are added for nothing.
  public static func layerNorm(_ x: Tensor, weight: Tensor, biases: Tensor, eps: Float) -> Tensor {
    let (width, frames) = (x.shape.last ?? 1, biases.shape[0])
    precondition(
      x.rank >= 3 && x.shape[1] == frames && weight.shape == [width] && biases.shape == [frames, width],
      "layerNorm of \(x.shape) with biases \(biases.shape)")
    if x.isRecorded || weight.isRecorded || biases.isRecorded {
      let rows = [1, frames] + [Int](repeating: 1, count: x.rank - 3) + [width]
      return layerNorm(x, weight: weight, eps: eps) + biases.reshaped(rows)
    }
    let (source, factors, terms) = (x.contiguous(), weight.contiguous(), biases.contiguous())
    let result = Tensor(uninitialized: x.shape)
    let perFrame = x.shape[2...].dropLast().reduce(1, *)
    forRows(x.count / max(1, width), width: width) { first, rows in
      for row in first..<first + rows {
        let from = source.base + row * width
        let (mean, inverse) = statistics(from, width, mean: true, eps: eps)
        kernels.normalize(
          result.base + row * width, from, mean, inverse, factors.base,
          terms.base + row / perFrame % frames * width, width)
      }
    }
    keepAlive(source, factors, terms)
    return result
  }

  /// Root-mean-square normalisation over the last dimension, scaled by `weight` `[D]`.
  public static func rmsNorm(_ x: Tensor, weight: Tensor? = nil, eps: Float) -> Tensor {
    let normalized = normalize(x, mean: false, eps: eps, weight: weight, bias: nil, name: "rmsNorm")
    return recordNorm(normalized, x: x, weight: weight, bias: nil, mean: false, eps: eps)
  }

  /// `layerNorm(x) * (1 + scale) + shift`: tokens `[B, L, D]`, one row `[B, 1, D]` of scale and shift per
  /// batch entry.
  public static func layerNormModulated(_ x: Tensor, scale: Tensor, shift: Tensor, eps: Float) -> Tensor {
    precondition(
      scale.shape == [x.shape[0], 1, x.shape[2]] && shift.shape == scale.shape,
      "modulation \(scale.shape), \(shift.shape) of \(x.shape)")
    if x.isRecorded || scale.isRecorded || shift.isRecorded {
      return modulatedRecorded(x, scale: scale, shift: shift, eps: eps)
    }
    let (length, width) = (x.shape[1], x.shape[2])
    let (source, factors, terms) = (x.contiguous(), scale.contiguous(), shift.contiguous())
    let result = Tensor(uninitialized: x.shape)
    let (input, output, scales, shifts) = (source.base, result.base, factors.base, terms.base)
    forRows(x.count / max(1, width), width: width) { first, rows in
      for row in first..<first + rows {
        let from = input + row * width
        let (mean, inverse) = statistics(from, width, mean: true, eps: eps)
        let at = row / length * width
        kernels.normalize_modulate(
          output + row * width, from, mean, inverse, scales + at, shifts + at, width)
      }
    }
    keepAlive(source, factors, terms)
    return result
  }

  /// Mean (0 where unused) and 1 / standard deviation of one row.
  static func statistics(
    _ row: UnsafePointer<Float>, _ width: Int, mean wantsMean: Bool, eps: Float
  ) -> (mean: Float, inverse: Float) {
    let mean = wantsMean ? kernels.sum(row, width) / Float(width) : 0
    let variance = kernels.sum_squares(row, mean, width) / Float(width)
    return (mean, 1 / (variance + eps).squareRoot())
  }

  private static func normalize(
    _ x: Tensor, mean: Bool, eps: Float, weight: Tensor?, bias: Tensor?, name: StaticString
  ) -> Tensor {
    let width = x.shape.last ?? 1
    precondition(
      weight == nil || weight?.shape == [width], "\(name) weight \(weight?.shape ?? []) of \(x.shape)")
    precondition(bias == nil || bias?.shape == [width], "\(name) bias \(bias?.shape ?? []) of \(x.shape)")
    let source = x.detached().contiguous()
    let (factors, terms) = (weight?.detached().contiguous(), bias?.detached().contiguous())
    let result = Tensor(uninitialized: x.shape)
    let (input, output, gains, offsets) = (source.base, result.base, factors?.base, terms?.base)
    forRows(x.count / max(1, width), width: width) { first, rows in
      for row in first..<first + rows {
        let from = input + row * width
        let (average, inverse) = statistics(from, width, mean: mean, eps: eps)
        kernels.normalize(output + row * width, from, average, inverse, gains, offsets, width)
      }
    }
    keepAlive(source, factors, terms)
    return result
  }
}
