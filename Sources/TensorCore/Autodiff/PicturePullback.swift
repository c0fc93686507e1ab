import CKernels

// Gradients of operations on pictures `[N, H, W, C]` with frozen filters and norms.

extension Tensor {
  /// `convolution` with a record. The input's gradient is the convolution of the result's with the filters turned around.
  static func convolutionRecorded(
    _ x: Tensor, kernel: ConvolutionKernel, stride: Int, padding: ConvolutionPadding,
    activation: ConvolutionActivation, adding skip: Tensor?
  ) -> Tensor {
    let inner = convolution(
      x.detached(), kernel: kernel, stride: stride, padding: padding, adding: skip?.detached())
    let (shape, wantsInput, wantsSkip) = (x.shape, x.isRecorded, skip?.isRecorded == true)
    let result = inner.recorded(from: [x] + (skip.map { [$0] } ?? [])) { gradient in
      let dx =
        wantsInput
        ? convolutionGradient(gradient, kernel, shape: shape, stride: stride, padding: padding) : nil
      return [dx, wantsSkip ? gradient : nil]
    }
    return activation == .relu ? result.relu() : result
  }

  private static func convolutionGradient(
    _ gradient: Tensor, _ kernel: ConvolutionKernel, shape: [Int], stride: Int, padding: ConvolutionPadding
  ) -> Tensor {
    let dy = stride == 1 ? gradient : gradient.spread(by: stride)
    let (top, left) = (kernel.height - 1 - padding.top, kernel.width - 1 - padding.left)
    precondition(top >= 0 && left >= 0, "gradient of a convolution with a padding beyond its filters")
    return convolution(
      dy, kernel: kernel.transposed(),
      padding: ConvolutionPadding(
        top: top, bottom: shape[1] - dy.shape[1] - top + kernel.height - 1, left: left,
        right: shape[2] - dy.shape[2] - left + kernel.width - 1))
  }

  /// Pixels `step` apart with zeros between them.
  private func spread(by step: Int) -> Tensor {
    let (pictures, height, width, channels) = (shape[0], shape[1], shape[2], shape[3])
    let (rows, columns) = ((height - 1) * step + 1, (width - 1) * step + 1)
    let source = detached().contiguous()
    let result = Tensor.zeros([pictures, rows, columns, channels])
    parallelFor(pictures * height) { line in
      let to = result.base + (line / height * rows + line % height * step) * columns * channels
      for column in 0..<width {
        (to + column * step * channels).update(
          from: source.base + (line * width + column) * channels, count: channels)
      }
    }
    keepAlive(source)
    return result
  }

  /// Records a repetition of pixels: the gradient of a pixel is the sum of its copies'. `copies` are the rows or columns
  /// that each one of the source's became, in order.
  func recorded(repeating source: Tensor) -> Tensor {
    guard source.isRecorded else { return self }
    let (from, to) = (source.shape, shape)
    return recorded(from: [source]) { gradient in
      let dy = gradient.contiguous()
      let dx = Tensor.zeros(from)
      let channels = from[3]
      parallelFor(from[0] * from[1]) { line in
        let (picture, row) = (line / from[1], line % from[1])
        // Result row i shows source row i * from / to.
        for i in (row * to[1] + from[1] - 1) / from[1]..<((row + 1) * to[1] + from[1] - 1) / from[1] {
          for column in 0..<to[2] {
            let target = dx.base + (line * from[2] + column * from[2] / to[2]) * channels
            kernels.add(
              target, target, dy.base + ((picture * to[1] + i) * to[2] + column) * channels, channels)
          }
        }
      }
      keepAlive(dy)
      return [dx]
    }
  }

  /// `geglu` with a record.
  func gegluRecorded() -> Tensor {
    let source = detached().contiguous()
    return source.geglu().recorded(from: [self]) { gradient in
      let dy = gradient.contiguous()
      let dx = Tensor(uninitialized: source.shape)
      let width = (source.shape.last ?? 0) / 2
      forRows(source.count / max(1, 2 * width), width: 2 * width) { first, rows in
        for row in first..<first + rows {
          let at = row * 2 * width
          kernels.gradient.geglu(
            dx.base + at, dx.base + at + width, dy.base + row * width, source.base + at,
            source.base + at + width, width)
        }
      }
      keepAlive(source, dy)
      return [dx]
    }
  }

  /// `groupNorm` with a record. With `z` the normal values, `d` the result's gradient times the slope of the activation and
  /// the weight, and means over a group: `dx = inverse * (d - mean(d) - z * mean(d * z))`; the offset's is the sum over its
  /// pixels.
  static func groupNormRecorded(
    _ x: Tensor, groups: Int, weight: Tensor, bias: Tensor, eps: Float, activation: Activation,
    adding offset: Tensor?
  ) -> Tensor {
    precondition(
      activation == .identity || activation == .silu, "groupNorm with \(activation) has no gradient rule")
    let (source, shift) = (x.detached().contiguous(), offset?.detached().contiguous())
    let (factors, terms) = (weight.detached().contiguous(), bias.detached().contiguous())
    let result = groupNorm(
      source, groups: groups, weight: factors, bias: terms, eps: eps, activation: activation, adding: shift)
    let wantsOffset = offset?.isRecorded == true
    return result.recorded(accumulating: [x] + (offset.map { [$0] } ?? [])) { gradient, sums in
      let plan = GroupNormPlan(source, groups: groups, offset: shift)
      let lines = plan.lines(source, eps: eps, offset: shift)  // [N, 2, C]: mean, 1 / deviation
      let dy = gradient.contiguous()
      let channels = plan.channels
      func norm(_ picture: Int) -> CKChannelNorm {
        let line = lines.base + picture * 2 * channels
        return CKChannelNorm(
          mean: line, inverse: line + channels, weight: factors.base, bias: terms.base,
          silu: activation == .silu ? 1 : 0, channels: channels)
      }
      let parts = Tensor(uninitialized: [plan.pictures * plan.strips, 2, channels])
      parallelFor(plan.pictures * plan.strips) { task in
        let (picture, strip) = (task / plan.strips, task % plan.strips)
        let at = plan.start(picture, strip)
        var norm = norm(picture)
        let to = parts.base + task * 2 * channels
        kernels.gradient.channel_slopes(
          &norm, to, to + channels, dy.base + at, source.base + at, plan.rows(strip))
      }
      let means = Tensor(uninitialized: [plan.pictures, 2, channels])
      parallelFor(plan.pictures * 2 * groups) { task in
        let (row, group) = (task / groups, task % groups)
        let members = group * plan.size..<(group + 1) * plan.size
        var sum = 0.0
        for strip in 0..<plan.strips {
          let at = parts.base + ((row / 2 * plan.strips + strip) * 2 + row % 2) * channels
          for channel in members { sum += Double(at[channel]) }
        }
        for channel in members {
          means.base[row * channels + channel] = Float(sum / Double(plan.pixels * plan.size))
        }
      }
      let (dx, accumulates) = target(&sums[0], shape: source.shape)
      // The offset's gradient needs dx alone.
      let own = wantsOffset && accumulates ? Tensor(uninitialized: source.shape) : dx
      parallelFor(plan.pictures * plan.strips) { task in
        let (picture, strip) = (task / plan.strips, task % plan.strips)
        let at = plan.start(picture, strip)
        var norm = norm(picture)
        let mean = means.base + picture * 2 * channels
        kernels.gradient.channel_gradient(
          &norm, own.base + at, dy.base + at, source.base + at, mean, mean + channels,
          accumulates && !wantsOffset ? 1 : 0, plan.rows(strip))
      }
      keepAlive(source, dy, factors, terms)
      keepAlive(parts, means, lines)
      sums[0] = dx
      guard wantsOffset, let shift else { return }
      if accumulates {
        forChunks(dx.count) { start, count in
          kernels.add(dx.base + start, dx.base + start, own.base + start, count)
        }
      }
      let rows = own.reshaped([shift.shape[0], -1, channels])
      accumulate(rows.reduced(to: [shift.shape[0], 1, channels]).reshaped(shift.shape), into: &sums[1])
    }
  }
}
