package import TensorCore

/// Windows over the frames of a clip that is longer than its denoiser takes: at every step each window is predicted on
/// its own and the predictions are joined, weighted (AnimateDiff-Evolved's context windows; MultiDiffusion in time).
///
/// Every other step the windows stand half a stride further on, so that no frame is always at a border.
package struct ContextWindows: Sendable, Equatable {
  /// Frames of a window.
  package var length: Int
  /// Frames that neighbouring windows share.
  package var overlap: Int

  package init(length: Int = 16, overlap: Int = 4) {
    self.length = length
    self.overlap = overlap
  }

  /// The same with windows of at most so many frames.
  package func limited(to most: Int) -> ContextWindows {
    let length = max(1, min(length, most))
    return ContextWindows(length: length, overlap: min(overlap, length - 1))
  }

  /// The windows of a step, which together hold every frame.
  package func ranges(frames: Int, step: Int) -> [Range<Int>] {
    let length = min(length, frames)
    let stride = max(1, length - overlap)
    var starts = [0]
    var next = step % 2 == 1 ? max(1, stride / 2) : stride
    while next + length < frames {
      starts.append(next)
      next += stride
    }
    if frames > length { starts.append(frames - length) }
    return starts.map { $0..<$0 + length }
  }

  /// The weight of each frame of a window: it rises from its border over the frames that it shares.
  package func weights(_ range: Range<Int>, frames: Int) -> [Float] {
    range.map { frame in
      let left = range.lowerBound == 0 ? Int.max : frame - range.lowerBound + 1
      let right = range.upperBound == frames ? Int.max : range.upperBound - frame
      return Float(min(left, right, overlap + 1)) / Float(overlap + 1)
    }
  }

  /// `[B, C, frames, h, w]` from the predictions of all windows.
  package func joined(
    frames: Int, step: Int, _ predict: (Range<Int>) throws(Cancelled) -> Tensor
  ) throws(Cancelled) -> Tensor {
    var sums = [Tensor?](repeating: nil, count: frames)
    var totals = [Float](repeating: 0, count: frames)
    for range in ranges(frames: frames, step: step) {
      let prediction = try predict(range)
      for (index, weight) in weights(range, frames: frames).enumerated() {
        let frame = prediction.narrow(2, from: index, length: 1).contiguous()
        let place = range.lowerBound + index
        sums[place] = sums[place].map { $0.adding(frame, scaledBy: weight) } ?? frame * weight
        totals[place] += weight
      }
    }
    return Tensor.concatenated(zip(sums, totals).compactMap { $0?.affine(1 / $1, 0) }, axis: 2)
  }
}
