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

  package init(range: ClosedRange<Float>, rest: Float, amplitudes: [Float]) {
    precondition(amplitudes.count > 1, "a calibration of \(amplitudes.count) points")
    (self.range, self.rest, self.amplitudes) = (range, rest, amplitudes)
  }

  /// The values of s that were measured.
  package var positions: [Float] { Self.positions(range, count: amplitudes.count) }

  static func positions(_ range: ClosedRange<Float>, count: Int) -> [Float] {
    (0..<count).map {
      range.lowerBound + (range.upperBound - range.lowerBound) * Float($0) / Float(count - 1)
    }
  }

  /// The rising curve closest to the measured one (pool adjacent violators).
  package var monotone: [Float] {
    var blocks: [(sum: Float, count: Int)] = []
    for value in amplitudes {
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

  /// Values of s for as many evenly spaced strengths, so that the amplitude lies on the line from rest (or, in a range
  /// that does not start at 0, from its own start) to what is reached at the end; nil where no motion grows.
  package var table: [Float]? {
    let curve = monotone
    let low = range.lowerBound == 0 ? rest : curve[0]
    let high = curve[curve.count - 1]
    guard high - curve[0] > 0.01, high > low else { return nil }
    let positions = positions
    return positions.indices.map { index in
      let wanted = low + (high - low) * Float(index) / Float(positions.count - 1)
      guard let right = curve.firstIndex(where: { $0 >= wanted }) else { return range.upperBound }
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

    package init(settings: SamplerSettings, captions: [[String]?], seeds: [UInt64]) {
      precondition(captions.count == seeds.count && !seeds.isEmpty, "captions and seeds of clips")
      (self.settings, self.captions, self.seeds) = (settings, captions, seeds)
    }
  }

  /// Makes clips at every s and measures them; the file's own table takes no part.
  /// - Parameters:
  ///   - model: with one adapter, which has a strength token.
  ///   - progress: clips done, of how many.
  /// - Throws: `TrainingError.data` for an adapter without a token, and what a run throws.
  package static func measure(
    _ model: VideoModel, _ measure: MotionMeasure, clips: Clips, points: Int = 11,
    monitor: RunMonitor = RunMonitor(), progress: (_ done: Int, _ of: Int) -> Void = { _, _ in }
  ) throws -> StrengthCalibration {
    guard model.adapters.count == 1, let range = model.adapters[0].trainedRange else {
      throw TrainingError.data(
        path: model.adapters.first?.path ?? "the adapter",
        reason: "has no strength token, so there is nothing to calibrate")
    }
    let model = model.uncalibrated
    let total = (points + 1) * clips.seeds.count
    var done = 0
    var stages = StageSeconds()
    func mean(_ strength: Float) throws -> Float {
      var sum: Float = 0
      for (index, seed) in clips.seeds.enumerated() {
        var settings = clips.settings
        settings.seed = seed
        let frames = try TextToVideo.run(
          model, settings: settings, caption: clips.captions[index], frames: model.info.clipLength,
          width: model.info.trainedWidth, height: model.info.trainedHeight, adapterStrengths: [[strength]],
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
    return StrengthCalibration(range: range, rest: rest, amplitudes: amplitudes)
  }
}
