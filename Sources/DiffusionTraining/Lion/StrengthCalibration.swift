import DiffusionLayers
package import DiffusionPipelines

/// How the motion of an adapter with a strength token grows with s, and the table that makes it grow in a straight line
/// (methods 1.3 g).
package struct StrengthCalibration: Sendable, Equatable {
  /// The strengths that the adapter was trained for.
  package let range: ClosedRange<Float>
  /// The mean amplitude of clips without the adapter.
  package let rest: Float
  /// The mean amplitude at evenly spaced s over `range`.
  package let amplitudes: [Float]
  /// The same past the range, in quarters of its length: a token is affine, so it can be asked for more than training has
  /// shown it.
  package let beyond: [Float]
  /// The amplitude that the largest strength is to have; nil for the one at the end of the range.
  package let full: Float?

  package init(
    range: ClosedRange<Float>, rest: Float, amplitudes: [Float], beyond: [Float] = [], full: Float? = nil
  ) {
    precondition(amplitudes.count > 1, "a calibration of \(amplitudes.count) points")
    (self.range, self.rest, self.amplitudes) = (range, rest, amplitudes)
    (self.beyond, self.full) = (beyond, full)
  }

  /// The values of s that were measured.
  package var positions: [Float] {
    Self.positions(range, count: amplitudes.count)
      + beyond.indices.map { Self.position(past: range, Float($0 + 1)) }
  }

  private static func position(past range: ClosedRange<Float>, _ quarters: Float) -> Float {
    range.upperBound + (range.upperBound - range.lowerBound) * quarters / 4
  }

  static func positions(_ range: ClosedRange<Float>, count: Int) -> [Float] {
    (0..<count).map {
      range.lowerBound + (range.upperBound - range.lowerBound) * Float($0) / Float(count - 1)
    }
  }

  /// The rising curve closest to the measured one (pool adjacent violators).
  package var monotone: [Float] {
    var blocks: [(sum: Float, count: Int)] = []
    for value in amplitudes + beyond {
      blocks.append((value, 1))
      while blocks.count > 1,
        blocks[blocks.count - 2].sum * Float(blocks[blocks.count - 1].count)
          > blocks[blocks.count - 1].sum * Float(blocks[blocks.count - 2].count)
      {
        let last = blocks.removeLast()
        blocks[blocks.count - 1].sum += last.sum
        blocks[blocks.count - 1].count += last.count
      }
    }
    return blocks.flatMap { [Float](repeating: $0.sum / Float($0.count), count: $0.count) }
  }

  /// Values of s for evenly spaced strengths over the range, so that the amplitude lies on the line from rest (or, in a
  /// range that does not start at 0, from its own start) to `full` or, where that is never reached, to the largest one;
  /// nil where no motion grows.
  package var table: [Float]? {
    let curve = monotone
    let low = range.lowerBound == 0 ? rest : curve[0]
    let high = full.map { min($0, curve[curve.count - 1]) } ?? curve[amplitudes.count - 1]
    guard high - curve[0] > 0.01, high > low else { return nil }
    let positions = positions
    return amplitudes.indices.map { index in
      let wanted = low + (high - low) * Float(index) / Float(amplitudes.count - 1)
      guard let right = curve.firstIndex(where: { $0 >= wanted }) else {
        return positions[positions.count - 1]
      }
      guard right > 0 else { return range.lowerBound }
      let (a, b) = (curve[right - 1], curve[right])
      return positions[right - 1] + (positions[right] - positions[right - 1]) * (wanted - a) / (b - a)
    }
  }

  /// Where the clips come from that a curve is measured on.
  package struct Clips: Sendable {
    package var settings: SamplerSettings
    /// A caption for each clip; nil takes the settings' prompt.
    package var captions: [[String]?]
    /// Seed of the noise of each clip.
    package var seeds: [UInt64]
    /// nil takes the model's.
    package var size: (width: Int, height: Int)?

    package init(
      settings: SamplerSettings, captions: [[String]?], seeds: [UInt64],
      size: (width: Int, height: Int)? = nil
    ) {
      precondition(captions.count == seeds.count && !seeds.isEmpty, "captions and seeds of clips")
      (self.settings, self.captions, self.seeds, self.size) = (settings, captions, seeds, size)
    }
  }

  /// Makes clips at every s and measures them; the file's own table takes no part.
  /// - Parameters:
  ///   - model: with one adapter, which has a strength token.
  ///   - full: the amplitude that the largest strength is to have. Where the end of the range, which starts at 0, falls
  ///     short of it, s goes on past the end while the motion still grows, up to twice the range.
  ///   - progress: clips done, of how many.
  /// - Throws: `TrainingError.data` for an adapter without a token, and what a run throws.
  package static func measure(
    _ model: VideoModel, _ measure: MotionMeasure, clips: Clips, points: Int = 11, full: Float? = nil,
    monitor: RunMonitor = RunMonitor(), progress: (_ done: Int, _ of: Int) -> Void = { _, _ in }
  ) throws -> StrengthCalibration {
    guard model.adapters.count == 1, let range = model.adapters[0].trainedRange else {
      throw TrainingError.data(
        path: model.adapters.first?.path ?? "the adapter",
        reason: "has no strength token, so there is nothing to calibrate")
    }
    precondition(full == nil || range.lowerBound == 0, "an amplitude for the end of a range with two ends")
    let allowed = AdapterHeader.calibrationRange(range)
    let model = model.uncalibrated(range: allowed)
    let size = clips.size ?? (model.info.trainedWidth, model.info.trainedHeight)
    var total = (points + 1) * clips.seeds.count
    var done = 0
    var stages = StageSeconds()
    func mean(_ strength: Float) throws -> Float {
      var sum: Float = 0
      for (index, seed) in clips.seeds.enumerated() {
        var settings = clips.settings
        settings.seed = seed
        let frames = try TextToVideo.run(
          model, settings: settings, caption: clips.captions[index], frames: model.info.clipLength,
          width: size.width, height: size.height, adapterStrengths: [[strength]],
          monitor: monitor, stages: &stages)
        sum += measure.amplitude(frames)
        done += 1
        progress(done, total)
      }
      return sum / Float(clips.seeds.count)
    }
    let rest = try mean(0)
    // 0 itself would be off.
    let amplitudes = try positions(range, count: points).map { try mean($0 == 0 ? 1e-6 : $0) }
    var beyond: [Float] = []
    while let full, let reached = (amplitudes + beyond).last, reached < full {
      let s = position(past: range, Float(beyond.count + 1))
      guard allowed.contains(s) else { break }
      total += clips.seeds.count
      let next = try mean(s)
      guard next > reached else { break }
      beyond.append(next)
    }
    return StrengthCalibration(range: range, rest: rest, amplitudes: amplitudes, beyond: beyond, full: full)
  }
}
