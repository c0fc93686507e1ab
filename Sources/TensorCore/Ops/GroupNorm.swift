import CKernels

extension Tensor {
  /// Group normalisation of pictures `[N, H, W, C]` with affine `weight` and `bias` `[C]`, then `activation`.
  ///
  /// Frames of a clip are normalised together when they stand below each other: `[B, F * H, W, C]`.
  /// - Parameter offset: `[M, C]`, added to the pixels before they are normalised, one row for every `N / M` pictures. Costs
  ///   no pass over the pictures.
  public static func groupNorm(
    _ x: Tensor, groups: Int, weight: Tensor, bias: Tensor, eps: Float, activation: Activation = .identity,
    adding offset: Tensor? = nil
  ) -> Tensor {
    let (pictures, channels) = (x.shape[0], x.shape[3])
    precondition(
      channels % groups == 0 && weight.shape == [channels] && bias.shape == [channels],
      "groupNorm of \(x.shape) in \(groups) groups with weight \(weight.shape)")
    precondition(
      offset == nil
        || offset.map { $0.shape == [$0.shape[0], channels] && pictures % $0.shape[0] == 0 } == true,
      "groupNorm of \(x.shape) with an offset \(offset?.shape ?? [])")
    x.requireNoTape("groupNorm")
    let (source, factors, terms) = (x.contiguous(), weight.contiguous(), bias.contiguous())
    let shift = offset?.contiguous()
    let result = Tensor(uninitialized: x.shape)
    let pixels = x.shape[1] * x.shape[2]
    // Fixed strips of pixels, each small enough to be read twice from a cache.
    let strip = max(1, elementwiseChunk / channels)
    let strips = (pixels + strip - 1) / strip
    guard x.count > 0 else { return result }
    func rows(_ index: Int) -> Int { min(strip, pixels - index * strip) }
    let moments = Tensor(uninitialized: [pictures * strips, 2, channels])
    parallelFor(pictures * strips) { task in
      let at = moments.base + task * 2 * channels
      let from = source.base + (task / strips * pixels + task % strips * strip) * channels
      kernels.channel_moments(at, at + channels, from, rows(task % strips), channels)
    }
    // Of every channel: what is taken off, the factor, what is added.
    let lines = Tensor(uninitialized: [pictures, 3, channels])
    let size = channels / groups
    parallelFor(pictures) { picture in
      let row = shift.map { $0.base + picture / (pictures / $0.shape[0]) * channels }
      let line = lines.base + picture * 3 * channels
      for group in 0..<groups {
        let members = group * size..<(group + 1) * size
        var sum = 0.0
        for index in 0..<strips {
          let at = moments.base + (picture * strips + index) * 2 * channels
          for channel in members {
            sum += Double(rows(index)) * (Double(at[channel]) + Double(row?[channel] ?? 0))
          }
        }
        let mean = sum / Double(pixels * size)
        var squares = 0.0
        for index in 0..<strips {
          let at = moments.base + (picture * strips + index) * 2 * channels
          for channel in members {
            let distance = Double(at[channel]) + Double(row?[channel] ?? 0) - mean
            squares += Double(at[channels + channel]) + Double(rows(index)) * distance * distance
          }
        }
        let inverse = 1 / (Float(squares / Double(pixels * size)) + eps).squareRoot()
        for channel in members {
          line[channel] = Float(mean - Double(row?[channel] ?? 0))
          line[channels + channel] = inverse * factors.base[channel]
          line[2 * channels + channel] = terms.base[channel]
        }
      }
    }
    parallelFor(pictures * strips) { task in
      let line = lines.base + task / strips * 3 * channels
      let at = (task / strips * pixels + task % strips * strip) * channels
      let count = rows(task % strips)
      kernels.channel_normalize(
        result.base + at, source.base + at, line, line + channels, line + 2 * channels,
        activation == .silu ? 1 : 0, count, channels)
      if activation != .silu { activation.apply(result.base + at, count * channels) }
    }
    keepAlive(source, factors, terms, shift)
    keepAlive(moments, lines)
    return result
  }
}
