import Glibc

/// How the camera and the sprite of one clip move, frame by frame.
package struct CameraTrack: Sendable {
  package let width: Int
  package let height: Int
  /// The picture's motion since frame 0.
  package let motions: [CameraMotion]
  /// Weighted correlation of each frame, warped back, with frame 0: 1 is perfect, below 0.6 the motion is doubtful.
  package let correlations: [Float]
  /// The sprite's centroid on the screen in pixels from the centre; nil where no sprite was found.
  package let sprite: [SIMD2<Float>?]
  /// The sprite's area in pixels.
  package let spriteArea: [Float]

  /// The sprite's path with the camera's motion taken out, in coordinates of frame 0.
  package var object: [SIMD2<Float>?] {
    zip(sprite, motions).map { point, motion in point.map(motion.undone) }
  }

  /// Signed amplitude of the whole clip along an axis: the least-squares slope through frame 0, in units of the
  /// axis's full scale.
  package func amplitude(_ axis: CameraAxis) -> Float {
    let last = Float(max(1, motions.count - 1))
    var (sum, square): (Float, Float) = (0, 0)
    for (frame, motion) in motions.enumerated() {
      let u = Float(frame) / last
      sum += motion.vector[axis.rawValue] * u
      square += u * u
    }
    return square > 0 ? sum / square / axis.fullScale(height: height) : 0
  }

  /// The amplitude of a move: positive when the clip moves that way.
  package func amplitude(_ move: CameraMove) -> Float { amplitude(move.axis) * move.sign }

  /// The move along the strongest axis; nil when even that one stays below `threshold`.
  package func move(threshold: Float = 0.25) -> CameraMove? {
    let amplitudes = CameraAxis.allCases.map { ($0, amplitude($0)) }
    guard let (axis, value) = amplitudes.max(by: { abs($0.1) < abs($1.1) }), abs(value) >= threshold else {
      return nil
    }
    return CameraMove(axis: axis, isPositive: value > 0)
  }

  /// Size of the sprite's path with the camera taken out, in units of full scale: its spread along the main direction
  /// over that of a straight move of a quarter of the height. Frames without a sprite count as the mean.
  package var objectAmplitude: Float {
    let points = object
    // A clip that loses its sprite in one frame has no mean: nothing is measured then.
    guard !points.contains(where: { $0 == nil }) else { return 0 }
    let path = points.compactMap { $0 }
    let mean = path.reduce(SIMD2<Float>.zero, +) / Float(path.count)
    var (xx, xy, yy) = (0.0, 0.0, 0.0)
    for point in path {
      let d = (point - mean) / (Float(height) / 24)
      xx += Double(d.x * d.x)
      xy += Double(d.x * d.y)
      yy += Double(d.y * d.y)
    }
    // The largest singular value of the [F, 2] matrix of offsets.
    let largest = (xx + yy) / 2 + (((xx - yy) / 2) * ((xx - yy) / 2) + xy * xy).squareRoot()
    let straight = (8.0 * 9.0 / (12.0 * 7.0)).squareRoot() * 6
    return Float(largest.squareRoot() / straight * (8.0 / Double(path.count)).squareRoot())
  }

  /// The largest mean speed of the background, in pixels a frame: how far the corners of the picture travel, or its
  /// middle, over the number of steps. Clips below 0.2 count as filmed with a camera that stood still.
  package var backgroundSpeed: Float {
    guard motions.count > 1 else { return 0 }
    let corner = (Float(width * width + height * height)).squareRoot() / 2
    let farthest = motions.map { motion in
      let shift = (motion.tx * motion.tx + motion.ty * motion.ty).squareRoot()
      return shift + corner * (abs(expm1f(motion.logZoom)) + abs(motion.roll))
    }.max()
    return (farthest ?? 0) / Float(motions.count - 1)
  }
}
