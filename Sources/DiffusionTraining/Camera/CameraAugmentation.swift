package import DiffusionPipelines
import Glibc

/// Makes clips with a known camera motion from photos or from clips that have little motion of their own.
///
/// Reference: AnimateDiff (2307.04725), the rule-based augmentation of MotionLoRA.
package struct CameraAugmentation: Sendable, Equatable {
  /// How far the camera travels.
  package enum Travel: Sendable, Equatable {
    /// The windows of the augmentation's table: an amount per axis, changed by up to ±20 % from clip to clip.
    case table(Amounts)
    /// Amplitudes drawn evenly from a range, in units of the axis's full scale; `zeroShare` of the clips stand still.
    case amplitudes(ClosedRange<Float>, zeroShare: Float)
  }

  /// What the table's moves travel on average.
  package struct Amounts: Sendable, Equatable {
    /// Share of the base that a pan or tilt travels.
    package var shift: Float = 0.2
    /// Share of the side that a zoom takes away.
    package var zoom: Float = 0.35
    /// Radians.
    package var roll: Float = .pi / 6

    package init(shift: Float = 0.2, zoom: Float = 0.35, roll: Float = .pi / 6) {
      (self.shift, self.zoom, self.roll) = (shift, zoom, roll)
    }

    func amount(_ axis: CameraAxis) -> Float {
      switch axis {
      case .pan, .tilt: shift
      case .zoom: zoom
      case .roll: roll
      }
    }
  }

  /// The moves to choose from.
  package var moves: [CameraMove]
  package var frames: Int
  package var width: Int
  package var height: Int
  package var travel: Travel
  /// Standard deviation of the noise added to every frame, in steps of 8-bit colour: a still clip of one photo would
  /// otherwise hold the same bytes over and over, which no camera gives.
  package var sensorNoise: Float

  package init(
    moves: [CameraMove] = CameraMove.allCases, frames: Int, width: Int, height: Int,
    travel: Travel = .table(Amounts()), sensorNoise: Float = 0
  ) {
    precondition(!moves.isEmpty && frames > 0 && width > 0 && height > 0, "an augmentation without pictures")
    self.moves = moves
    (self.frames, self.width, self.height) = (frames, width, height)
    self.travel = travel
    self.sensorNoise = sensorNoise
  }

  /// A clip that was made.
  package struct Clip: Sendable {
    package let frames: [Frame]
    package let move: CameraMove
    /// Signed-free amplitude along the move, in units of full scale: exactly what the picture does.
    package let amplitude: Float
    /// The picture's motion since frame 0.
    package let motions: [CameraMotion]
  }

  /// Clip `index` of a seed: the same bytes whenever it is asked for.
  /// - Parameter source: pictures of one size; one photo stands for all frames, of a longer clip a part is taken, a
  ///   shorter one stops at its last picture.
  package func clip(_ source: [Frame], index: Int, seed: UInt64) -> Clip {
    precondition(!source.isEmpty, "an augmentation of nothing")
    var random = SampleRandom(seed: seed, index: index)
    let move = moves[random.below(moves.count)]
    let geometry = SourceGeometry(
      sourceWidth: source[0].width, sourceHeight: source[0].height, width: width, height: height)
    let path = path(move, geometry, &random)
    let first = source.count > frames ? random.below(source.count - frames + 1) : 0
    let windows = path.windows(frames: frames)
    let widest = windows.map(\.side).max() ?? 1
    let scale = max(geometry.baseWidth / Float(width), geometry.baseHeight / Float(height)) * widest
    var sampler: (index: Int, value: PictureSampler)?
    var pictures: [Frame] = []
    for (frame, window) in windows.enumerated() {
      let at = min(source.count - 1, first + frame)
      let current: PictureSampler
      if let sampler, sampler.index == at {
        current = sampler.value
      } else {
        current = PictureSampler(source[at], scale: scale)
        sampler = (at, current)
      }
      var picture = current.picture(window, of: geometry, width: width, height: height)
      if sensorNoise > 0 { picture = Self.noisy(picture, sensorNoise, &random) }
      pictures.append(picture)
    }
    return Clip(
      frames: pictures, move: move, amplitude: path.amplitude(frames: frames, width: width, height: height),
      motions: path.motions(frames: frames, width: width, height: height))
  }

  private func path(_ move: CameraMove, _ geometry: SourceGeometry, _ random: inout SampleRandom)
    -> CameraPath
  {
    switch travel {
    case .table(let amounts):
      let amount = amounts.amount(move.axis) * (0.8 + 0.4 * random.uniform())
      return .table(move, amount: amount, rollSide: geometry.rollSide(amount))
    case .amplitudes(let range, let zeroShare):
      let isStill = random.uniform() < zeroShare
      let amplitude = range.lowerBound + (range.upperBound - range.lowerBound) * random.uniform()
      return .measured(
        move, amplitude: isStill ? 0 : amplitude, aspect: Float(width) / Float(height),
        rollSide: geometry.rollSide(CameraAxis.roll.fullScale(height: 1)))
    }
  }

  static func noisy(_ frame: Frame, _ deviation: Float, _ random: inout SampleRandom) -> Frame {
    var result = frame
    for index in result.pixels.indices {
      let value = Float(result.pixels[index]) + deviation * random.normal()
      result.pixels[index] = UInt8(max(0, min(255, value.rounded())))
    }
    return result
  }
}
