package import DiffusionPipelines

/// Takes a clip's frames at another pace, so that one long clip of steady motion gives every amplitude from standing
/// still to its whole way.
package struct TimeResampling: Sendable, Equatable {
  /// Indices of the frames to take.
  package let indices: [Int]
  /// The pace over the fastest possible one, 0…1: the slope of the indices that were really taken, which are whole.
  package let amplitude: Float

  /// Frames at `amplitude` times the widest spacing.
  /// - Parameters:
  ///   - count: frames of the source, at least `frames`.
  ///   - frames: frames of the result.
  ///   - start: where in the room that is left the first frame lies, 0…1.
  package init(count: Int, frames: Int, amplitude: Float, start: Float = 0) {
    precondition(frames > 0 && count >= frames, "\(frames) frames of a clip of \(count)")
    let last = Float(count - 1)
    let way = max(0, min(1, amplitude)) * last
    let first = (max(0, min(1, start)) * (last - way)).rounded(.down)
    let steps = Float(max(1, frames - 1))
    indices = (0..<frames).map { min(count - 1, Int((first + way * Float($0) / steps).rounded())) }
    var (sum, square): (Float, Float) = (0, 0)
    for (frame, index) in indices.enumerated() {
      let u = Float(frame) / steps
      sum += Float(index - indices[0]) * u
      square += u * u
    }
    self.amplitude = square > 0 && last > 0 ? sum / square / last : 0
  }

  /// A clip at a pace drawn from 0…1, with `zeroShare` of the draws exactly 0; `sensorNoise` as in
  /// `CameraAugmentation`.
  package static func clip(
    _ source: [Frame], frames: Int, index: Int, seed: UInt64, zeroShare: Float = 0.1, sensorNoise: Float = 0
  ) -> (frames: [Frame], amplitude: Float) {
    var random = SampleRandom(seed: seed, index: index)
    let isStill = random.uniform() < zeroShare
    let pace = random.uniform()
    let taken = TimeResampling(
      count: source.count, frames: frames, amplitude: isStill ? 0 : pace, start: random.uniform())
    let pictures = taken.indices.map {
      sensorNoise > 0 ? CameraAugmentation.noisy(source[$0], sensorNoise, &random) : source[$0]
    }
    return (pictures, taken.amplitude)
  }
}
