import CKernels

extension Tensor {
  /// Layer normalisation over the last dimension with optional affine `weight` and `bias` `[D]`.
  public static func layerNorm(_ x: Tensor, weight: Tensor? = nil, bias: Tensor? = nil, eps: Float) -> Tensor
  {
    let normalized = normalize(x, mean: true, eps: eps, weight: weight, bias: bias, name: "layerNorm")
    return recordNorm(normalized, x: x, weight: weight, bias: bias, mean: true, eps: eps)
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

  /// Group normalisation of pictures `[N, H, W, C]` with affine `weight` and `bias` `[C]`, then `activation`.
  public static func groupNorm(
    _ x: Tensor, groups: Int, weight: Tensor, bias: Tensor, eps: Float, activation: Activation = .identity
  ) -> Tensor {
    let channels = x.shape[3]
    precondition(
      channels % groups == 0 && weight.shape == [channels] && bias.shape == [channels],
      "groupNorm of \(x.shape) in \(groups) groups with weight \(weight.shape)")
    x.requireNoTape("groupNorm")
    let (source, factors, terms) = (x.contiguous(), weight.contiguous(), bias.contiguous())
    let result = Tensor(uninitialized: x.shape)
    let (pixels, size) = (x.shape[1] * x.shape[2], channels / groups)
    // Fixed strips of pixels; their sums are added in order.
    let strip = max(1, elementwiseChunk / channels)
    let strips = (pixels + strip - 1) / strip
    for picture in 0..<x.shape[0] {
      let start = picture * pixels * channels
      func reduce(_ body: @escaping (UnsafePointer<Float>, Int) -> Float) -> [Double] {
        let partial = Tensor(uninitialized: [strips, groups])
        parallelFor(strips) { task in
          for group in 0..<groups {
            var sum: Float = 0
            for pixel in task * strip..<min(pixels, (task + 1) * strip) {
              sum += body(source.base + start + pixel * channels + group * size, group)
            }
            partial.base[task * groups + group] = sum
          }
        }
        return (0..<groups).map { group in
          (0..<strips).reduce(0.0) { $0 + Double(partial.base[$1 * groups + group]) }
        }
      }
      let elements = Double(pixels * size)
      let means = reduce { row, _ in kernels.sum(row, size) }.map { Float($0 / elements) }
      let squares = reduce { row, group in kernels.sum_squares(row, means[group], size) }
      let inverses = squares.map { 1 / (Float($0 / elements) + eps).squareRoot() }
      parallelFor(strips) { task in
        for pixel in task * strip..<min(pixels, (task + 1) * strip) {
          for group in 0..<groups {
            let channel = group * size
            let at = start + pixel * channels + channel
            kernels.normalize(
              result.base + at, source.base + at, means[group], inverses[group], factors.base + channel,
              terms.base + channel, size)
          }
          activation.apply(result.base + start + pixel * channels, channels)
        }
      }
    }
    return result
  }
}
