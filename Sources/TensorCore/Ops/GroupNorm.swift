import CKernels

/// How one group norm of pictures `[N, H, W, C]` is cut: by its shape alone, into strips of pixels that are small enough to
/// be read twice from a cache.
struct GroupNormPlan {
  let pictures: Int
  let pixels: Int
  let channels: Int
  let groups: Int
  /// Channels of a group.
  let size: Int
  /// Pixels of a strip, and strips of a picture.
  private let strip: Int
  let strips: Int
  /// Pictures of one row of the offset.
  private let perOffset: Int

  init(_ x: Tensor, groups: Int, offset: Tensor?) {
    (pictures, pixels, channels) = (x.shape[0], x.shape[1] * x.shape[2], x.shape[3])
    self.groups = groups
    size = channels / groups
    strip = max(1, elementwiseChunk / channels)
    strips = (pixels + strip - 1) / strip
    perOffset = x.shape[0] / max(1, offset?.shape[0] ?? x.shape[0])
  }

  /// Pixels of a strip.
  func rows(_ index: Int) -> Int { min(strip, pixels - index * strip) }

  /// Where a picture's strip begins.
  func start(_ picture: Int, _ index: Int) -> Int { (picture * pixels + index * strip) * channels }

  /// For each picture `[2, C]`: what is taken off each channel of `x`, its group's mean less its offset, and one over its
  /// group's deviation.
  func lines(_ x: Tensor, eps: Float, offset: Tensor?) -> Tensor {
    let moments = Tensor(uninitialized: [pictures * strips, 2, channels])
    parallelFor(pictures * strips) { task in
      let at = moments.base + task * 2 * channels
      let (picture, index) = (task / strips, task % strips)
      kernels.channel_moments(at, at + channels, x.base + start(picture, index), rows(index), channels)
    }
    let lines = Tensor(uninitialized: [pictures, 2, channels])
    parallelFor(pictures) { picture in
      let shift = offset.map { $0.base + picture / perOffset * channels }
      let line = lines.base + picture * 2 * channels
      for group in 0..<groups {
        let members = group * size..<(group + 1) * size
        var sum = 0.0
        for index in 0..<strips {
          let at = moments.base + (picture * strips + index) * 2 * channels
          for channel in members {
            sum += Double(rows(index)) * (Double(at[channel]) + Double(shift?[channel] ?? 0))
          }
        }
        let mean = sum / Double(pixels * size)
        var squares = 0.0
        for index in 0..<strips {
          let at = moments.base + (picture * strips + index) * 2 * channels
          for channel in members {
            let distance = Double(at[channel]) + Double(shift?[channel] ?? 0) - mean
            squares += Double(at[channels + channel]) + Double(rows(index)) * distance * distance
          }
        }
        let inverse = 1 / (Float(squares / Double(pixels * size)) + eps).squareRoot()
        for channel in members {
          line[channel] = Float(mean - Double(shift?[channel] ?? 0))
          line[channels + channel] = inverse
        }
      }
    }
    keepAlive(x, moments, offset)
    return lines
  }
}

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
    if let offset {
      precondition(
        offset.rank == 2 && offset.shape[1] == channels && pictures % max(1, offset.shape[0]) == 0,
        "groupNorm of \(x.shape) with an offset \(offset.shape)")
    }
    precondition(!weight.isRecorded && !bias.isRecorded, "groupNorm has no gradient rule for its weight")
    if x.isRecorded || offset?.isRecorded == true {
      return groupNormRecorded(
        x, groups: groups, weight: weight, bias: bias, eps: eps, activation: activation, adding: offset)
    }
    let (source, factors, terms) = (x.contiguous(), weight.contiguous(), bias.contiguous())
    let result = Tensor(uninitialized: x.shape)
    guard x.count > 0 else { return result }
    let plan = GroupNormPlan(source, groups: groups, offset: offset)
    let lines = plan.lines(source, eps: eps, offset: offset?.contiguous())
    for picture in 0..<pictures {
      let inverse = lines.base + (2 * picture + 1) * channels
      kernels.mul(inverse, inverse, factors.base, channels)
    }
    parallelFor(pictures * plan.strips) { task in
      let (picture, strip) = (task / plan.strips, task % plan.strips)
      let (line, at) = (lines.base + picture * 2 * channels, plan.start(picture, strip))
      kernels.channel_normalize(
        result.base + at, source.base + at, line, line + channels, terms.base, activation == .silu ? 1 : 0,
        plan.rows(strip), channels)
      if activation != .silu { activation.apply(result.base + at, plan.rows(strip) * channels) }
    }
    keepAlive(source, factors, terms, lines)
    return result
  }
}
