import Glibc

/// Gauss–Newton fit of a similarity (shift, zoom, roll) between a reference picture and a later one, in the manner of
/// Lucas and Kanade: each step linearises the later picture, warped back by the motion so far.
struct SimilarityFit {
  private let width: Int
  private let height: Int
  private let reference: Plane
  /// The reference pixel's weight, 0 or 1.
  private let referenceWeights: [Float]
  /// Value, both slopes and weight of every pixel of the later picture.
  private let samples: [SIMD4<Float>]

  /// - Parameters:
  ///   - sigma: blur of both pictures before the comparison; 0 for none.
  init(_ reference: Plane, _ weights: [Float], _ later: Plane, _ laterWeights: [Float], sigma: Float) {
    (width, height) = (reference.width, reference.height)
    self.reference = reference.blurred(sigma)
    referenceWeights = weights
    let picture = later.blurred(sigma)
    let (dx, dy) = picture.gradients
    samples = picture.values.indices.map { SIMD4(picture.values[$0], dx[$0], dy[$0], laterWeights[$0]) }
  }

  /// Improves a motion by `steps` steps.
  /// - Returns: the motion, and the weighted correlation of the pictures at the last but one.
  func run(_ start: CameraMotion, steps: Int) -> (motion: CameraMotion, correlation: Float) {
    var motion = start
    var correlation: Float = 0
    var view = Warped(count: width * height)
    for step in 0..<steps {
      warp(motion, into: &view)
      reweight(&view)
      if step == steps - 1 { correlation = agreement(view) }
      var next = motion.vector + solve(view, motion).clamped(lowerBound: -Self.limit, upperBound: Self.limit)
      next[2] = max(-1.2, min(1.2, next[2]))
      next[3] = max(-1.2, min(1.2, next[3]))
      motion = CameraMotion(next)
    }
    return (motion, correlation)
  }

  /// The longest step.
  private static let limit = SIMD4<Float>(1.5, 1.5, 0.12, 0.12)

  /// The later picture as it would look in frame 0.
  private struct Warped {
    /// Value and slopes.
    var samples: [SIMD4<Float>]
    /// Position in the later picture, from its centre.
    var positions: [SIMD2<Float>]
    var weights: [Float]
    /// Reference minus value, without its weighted mean.
    var residuals: [Float]

    init(count: Int) {
      samples = [SIMD4<Float>](repeating: .zero, count: count)
      positions = [SIMD2<Float>](repeating: .zero, count: count)
      weights = [Float](repeating: 0, count: count)
      residuals = weights
    }
  }

  private func warp(_ motion: CameraMotion, into view: inout Warped) {
    let scale = expf(motion.logZoom)
    let (c, s) = (scale * cosf(motion.roll), scale * sinf(motion.roll))
    let (halfWidth, halfHeight) = (Float(width) / 2, Float(height) / 2)
    samples.withUnsafeBufferPointer { source in
      for row in 0..<height {
        let gy = Float(row) + 0.5 - halfHeight
        for column in 0..<width {
          let gx = Float(column) + 0.5 - halfWidth
          let x = c * gx - s * gy + motion.tx
          let y = s * gx + c * gy + motion.ty
          let index = row * width + column
          let sample = Bicubic.sample(
            source, width: width, height: height, x: x + halfWidth - 0.5, y: y + halfHeight - 0.5,
            sharpness: -0.75)
          let isInside = abs(x) < halfWidth - 1 && abs(y) < halfHeight - 1
          view.samples[index] = sample
          view.positions[index] = SIMD2(x, y)
          view.weights[index] = isInside ? referenceWeights[index] * max(0, min(1, sample[3])) : 0
        }
      }
    }
  }

  /// Residuals without their mean, and Tukey's weights on them.
  private func reweight(_ view: inout Warped) {
    var (sum, total) = (0.0, 0.0)
    for index in view.weights.indices {
      view.residuals[index] = reference.values[index] - view.samples[index][0]
      sum += Double(view.weights[index] * view.residuals[index])
      total += Double(view.weights[index])
    }
    let mean = Float(sum / max(1, total))
    var square = 0.0
    for index in view.weights.indices {
      view.residuals[index] -= mean
      square += Double(view.weights[index] * view.residuals[index] * view.residuals[index])
    }
    let reach = Float((square / max(1, total)).squareRoot()) * 2.5 + 1e-4
    for index in view.weights.indices {
      let ratio = view.residuals[index] / reach
      let inside = max(0, 1 - ratio * ratio)
      view.weights[index] *= inside * inside
    }
  }

  private func agreement(_ view: Warped) -> Float {
    var (total, meanA, meanB) = (0.0, 0.0, 0.0)
    for (index, weight) in view.weights.enumerated() {
      total += Double(weight)
      meanA += Double(weight * reference.values[index])
      meanB += Double(weight * view.samples[index][0])
    }
    let share = total / Double(width * height)
    guard share > 0.1 else { return 0 }
    meanA /= max(1e-6, total)
    meanB /= max(1e-6, total)
    var (ab, aa, bb) = (0.0, 0.0, 0.0)
    for (index, weight) in view.weights.enumerated() {
      let a = Double(reference.values[index]) - meanA
      let b = Double(view.samples[index][0]) - meanB
      ab += Double(weight) * a * b
      aa += Double(weight) * a * a
      bb += Double(weight) * b * b
    }
    return Float(ab / max(1e-9, (aa * bb).squareRoot()))
  }

  /// The step that the normal equations give.
  private func solve(_ view: Warped, _ motion: CameraMotion) -> SIMD4<Float> {
    var matrix = [SIMD4<Double>](repeating: .zero, count: 4)
    var right = SIMD4<Double>.zero
    for (index, weight) in view.weights.enumerated() where weight > 0 {
      let sample = view.samples[index]
      let (x, y) = (view.positions[index].x - motion.tx, view.positions[index].y - motion.ty)
      let jacobian = SIMD4<Double>(
        SIMD4(sample[1], sample[2], sample[1] * x + sample[2] * y, -sample[1] * y + sample[2] * x))
      let weighted = jacobian * Double(weight)
      for row in 0..<4 { matrix[row] += jacobian[row] * weighted }
      right += weighted * Double(view.residuals[index])
    }
    // A flat picture leaves the equations without a solution: a little damping keeps the motion where it is.
    let damping = 1e-6 * (matrix[0][0] + matrix[1][1]) / 2
    let size = Double(height) / 4
    for row in 0..<4 { matrix[row][row] += damping * (row < 2 ? 1 : size * size) + 1e-9 }
    return SIMD4<Float>(Self.solve(matrix, right))
  }

  /// Gaussian elimination with pivots.
  private static func solve(_ matrix: [SIMD4<Double>], _ right: SIMD4<Double>) -> SIMD4<Double> {
    var (a, b) = (matrix, right)
    for column in 0..<4 {
      let pivot = (column..<4).max { abs(a[$0][column]) < abs(a[$1][column]) } ?? column
      a.swapAt(column, pivot)
      (b[column], b[pivot]) = (b[pivot], b[column])
      guard a[column][column] != 0 else { return .zero }
      for row in (column + 1)..<4 {
        let factor = a[row][column] / a[column][column]
        a[row] -= factor * a[column]
        b[row] -= factor * b[column]
      }
    }
    var x = SIMD4<Double>.zero
    for row in stride(from: 3, through: 0, by: -1) {
      x[row] = (b[row] - (a[row] * x).sum()) / a[row][row]
    }
    return x
  }
}
