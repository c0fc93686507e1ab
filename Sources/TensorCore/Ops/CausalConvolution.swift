/// The filters of a convolution over time and space, one set of two-dimensional filters per frame of its
/// window.
///
/// A convolution over frames is the sum of as many convolutions of single frames. Computed so, the frames of a
/// window stay where they are (nothing is joined), frames of zeros before a clip's start cost nothing, and one
/// frame at a time suffices for the whole clip.
public struct CausalConvolutionKernel: Sendable {
  /// Channels in and out.
  public let inputs: Int
  public let outputs: Int
  /// Oldest frame first.
  let taps: [ConvolutionKernel]
  /// All taps, newest frame first; nil where the direct method is faster.
  let winograd: WinogradFilters?
  /// Whether frames of sufficient size pass through Winograd's method.
  package var usesWinograd: Bool { winograd != nil }

  /// Frames of the window.
  public var frames: Int { taps.count }

  /// - Parameters:
  ///   - weight: `[out, in, frames, height, width]` as checkpoints store it.
  ///   - bias: `[out]`, zeros when nil.
  public init(weight: Tensor, bias: Tensor?) {
    precondition(weight.rank == 5, "weight of shape \(weight.shape) of a convolution over frames")
    (outputs, inputs) = (weight.shape[0], weight.shape[1])
    let newest = weight.shape[2] - 1
    let filters = (0...newest).map { weight.select(2, $0) }
    if WinogradFilters.suits(
      inputs: inputs, outputs: outputs, height: weight.shape[3], width: weight.shape[4], taps: newest + 1)
    {
      let winograd = WinogradFilters(taps: filters.reversed(), bias: bias)
      taps = (0...newest).map {
        ConvolutionKernel(winograd, tap: newest - $0, bias: $0 == newest ? bias : nil)
      }
      self.winograd = winograd
    } else {
      taps = filters.enumerated().map { frame, weight in
        ConvolutionKernel(weight: weight, bias: frame == newest ? bias : nil)
      }
      winograd = nil
    }
  }

  /// Floats of scratch memory that each thread takes for a result of this extent by Winograd's method; 0 where
  /// the direct method is used.
  public func scratchFloats(rows: Int, columns: Int) -> Int {
    guard let winograd, winograd.suits(rows: rows, columns: columns) else { return 0 }
    return winograd.scratchFloats(rows: rows, columns: columns)
  }
}

extension Tensor {
  /// The newest frame of a causal convolution over time and space: `sum(conv(window[i])) + bias (+ skip)`
  /// `[1, H', W', O]`.
  ///
  /// - Parameters:
  ///   - window: the frames `[1, H, W, C]` under the filters, oldest first and at most `kernel.frames` of them;
  ///     those missing at the front count as zeros.
  ///   - padding: zeros around each frame.
  ///   - skip: added to the result; it has the result's shape.
  ///   - cancellation: what has not been begun when it is cancelled is left out; the caller then drops the
  ///     result.
  public static func causalConvolution(
    _ window: [Tensor], kernel: CausalConvolutionKernel, padding: ConvolutionPadding,
    adding skip: Tensor? = nil, cancellation: Cancellation? = nil
  ) -> Tensor {
    precondition(
      (1...kernel.frames).contains(window.count), "\(window.count) frames for \(kernel.frames) taps")
    let (height, width) = (window[0].shape[1], window[0].shape[2])
    for frame in window {
      precondition(
        frame.shape == [1, height, width, kernel.inputs],
        "frame \(frame.shape) under filters for \(kernel.inputs) channels")
      frame.requireNoTape("causalConvolution")
    }
    let frames = window.reversed().map { $0.contiguous() }
    let taps = kernel.taps.reversed().prefix(frames.count)
    let cut = ConvolutionCut(height: height, width: width, kernel.taps[0], 1, padding)
    let shape = [1, cut.rows, cut.columns, kernel.outputs]
    precondition(
      skip == nil || skip?.shape == shape, "skip \(skip?.shape ?? []) of a convolution to \(shape)")
    FlopCounter.add(cut.operations * Double(frames.count))
    let residual = skip?.contiguous()
    let result = Tensor(uninitialized: shape)
    if let filters = kernel.winograd, filters.suits(rows: cut.rows, columns: cut.columns) {
      filters.run(
        frames, scale: 1, top: padding.top, left: padding.left, activation: .identity, adding: residual,
        result: result, cancellation: cancellation)
      return result
    }
    // The newest frame writes a band, the older ones add to it while it is in the caches.
    let first = cut.bands(addsSkip: skip != nil, .identity)
    let others = cut.bands(addsSkip: true, .identity)
    let plans = taps.enumerated().map { index, tap in (index == 0 ? first : others).map { tap.plan(for: $0) }
    }
    parallelFor(first.count) { task in
      if cancellation?.isCancelled == true { return }
      let band = first[task]
      let at = band.firstOutput * cut.columns * kernel.outputs
      if let residual {
        (result.base + at).update(
          from: residual.base + at, count: band.outputRows * cut.columns * kernel.outputs)
      }
      let from = band.firstInput * width * kernel.inputs
      for (frame, plans) in zip(frames, plans) {
        plans[task].run(from: frame.base + from, to: result.base + at)
      }
    }
    keepAlive(frames, residual)
    return result
  }
}
