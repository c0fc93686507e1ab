/// Tells sprite from background by colour: the background's colours lie on a line in RGB, which is fitted to the outer
/// pixels of all frames; a pixel's distance from the line says how much of a sprite it is.
struct ForegroundModel {
  /// Distance of every pixel from the background's colours, `[frame][pixel]`.
  var distance: [[Float]]
  /// Position of every pixel along the line: the background's texture.
  var texture: [[Float]]
  /// The distance from which on a pixel counts as foreground.
  var threshold: Float
  /// Standard deviation of the texture over the clip.
  var textureDeviation: Float

  /// - Parameter frames: RGB in [-1, 1], `[frame][pixel][channel]` interleaved.
  init(_ frames: [[Float]], width: Int, height: Int) {
    let isOuter = Self.ring(width: width, height: height)
    let pixels = frames.map { Self.vectors($0) }
    // Robust weights of outer pixels: 0 or 1.
    var isUsed = frames.map { _ in isOuter }
    let outerCount = Double(isOuter.count { $0 } * frames.count)
    var along = frames.map { _ in [Double](repeating: 0, count: width * height) }
    var away = along
    for _ in 0..<4 {
      let line = ColourLine(pixels, isUsed)
      var sum = 0.0
      for (f, frame) in pixels.enumerated() {
        for (p, colour) in frame.enumerated() {
          let d = colour - line.mean
          let t = (d * line.axis).sum()
          let rest = d - t * line.axis
          along[f][p] = t
          away[f][p] = (rest * rest).sum().squareRoot()
          if isOuter[p] { sum += away[f][p] }
        }
      }
      let limit = 2.5 * sum / outerCount + 1e-3
      for f in isUsed.indices {
        for p in isOuter.indices { isUsed[f][p] = isOuter[p] && away[f][p] < limit }
      }
    }

    // A sprite's colour may lie on the extended line: what is far out along it counts as away from it.
    func overUsed(_ value: (Int, Int) -> Double) -> Double {
      var (sum, count) = (0.0, 0.0)
      for f in isUsed.indices {
        for p in isOuter.indices where isUsed[f][p] {
          sum += value(f, p)
          count += 1
        }
      }
      return (sum / max(1, count)).squareRoot()
    }
    let spread = 2.6 * overUsed { along[$0][$1] * along[$0][$1] }
    for f in away.indices {
      for p in isOuter.indices {
        let excess = max(0, abs(along[f][p]) - spread)
        away[f][p] = (away[f][p] * away[f][p] + excess * excess).squareRoot()
      }
    }
    let noise = overUsed { away[$0][$1] * away[$0][$1] }
    threshold = Float(max(0.12, 4 * noise))
    distance = away.map { $0.map(Float.init) }
    texture = along.map { $0.map(Float.init) }
    textureDeviation = Self.deviation(along)
  }

  /// Share of foreground of every pixel of a frame, 0…1.
  func score(_ frame: Int, width: Int, height: Int) -> Plane {
    Plane(
      width: width, height: height,
      values: distance[frame].map { max(0, min(1, ($0 - threshold) / 0.35)) })
  }

  /// The pixels near the border: an eighth of the height, at least two.
  private static func ring(width: Int, height: Int) -> [Bool] {
    let border = max(2, height / 8)
    var result = [Bool](repeating: false, count: width * height)
    for y in 0..<height {
      for x in 0..<width {
        result[y * width + x] = y < border || y >= height - border || x < border || x >= width - border
      }
    }
    return result
  }

  private static func vectors(_ frame: [Float]) -> [SIMD4<Double>] {
    var result = [SIMD4<Double>](repeating: .zero, count: frame.count / 3)
    for pixel in result.indices {
      for channel in 0..<3 { result[pixel][channel] = Double(frame[3 * pixel + channel]) }
    }
    return result
  }

  private static func deviation(_ values: [[Double]]) -> Float {
    let count = Double(values.reduce(0) { $0 + $1.count })
    let mean = values.reduce(0) { $0 + $1.reduce(0, +) } / count
    var square = 0.0
    for value in values.joined() { square += (value - mean) * (value - mean) }
    return Float((square / max(1, count - 1)).squareRoot())
  }
}

/// Mean and main direction of colours.
private struct ColourLine {
  var mean = SIMD4<Double>.zero
  var axis = SIMD4<Double>(1, 0, 0, 0)

  init(_ pixels: [[SIMD4<Double>]], _ isUsed: [[Bool]]) {
    var count = 0.0
    for (frame, used) in zip(pixels, isUsed) {
      for (colour, isIn) in zip(frame, used) where isIn {
        mean += colour
        count += 1
      }
    }
    mean /= max(1, count)
    var covariance = [SIMD4<Double>](repeating: .zero, count: 3)
    for (frame, used) in zip(pixels, isUsed) {
      for (colour, isIn) in zip(frame, used) where isIn {
        let d = colour - mean
        for row in 0..<3 { covariance[row] += d[row] * d }
      }
    }
    axis = SymmetricMatrix3.mainAxis(covariance)
  }
}

/// The eigenvector of the largest eigenvalue, by Jacobi's rotations.
private enum SymmetricMatrix3 {
  static func mainAxis(_ rows: [SIMD4<Double>]) -> SIMD4<Double> {
    var a = rows
    var vectors: [SIMD4<Double>] = [SIMD4(1, 0, 0, 0), SIMD4(0, 1, 0, 0), SIMD4(0, 0, 1, 0)]
    for _ in 0..<32 {
      let off = abs(a[0][1]) + abs(a[0][2]) + abs(a[1][2])
      let size = abs(a[0][0]) + abs(a[1][1]) + abs(a[2][2])
      if off <= 1e-17 * size { break }
      for (p, q) in [(0, 1), (0, 2), (1, 2)] where a[p][q] != 0 {
        let theta = (a[q][q] - a[p][p]) / (2 * a[p][q])
        let t = (theta >= 0 ? 1.0 : -1.0) / (abs(theta) + (theta * theta + 1).squareRoot())
        let c = 1 / (t * t + 1).squareRoot()
        let s = t * c
        let (rowP, rowQ) = (a[p], a[q])
        (a[p], a[q]) = (c * rowP - s * rowQ, s * rowP + c * rowQ)
        for row in 0..<3 {
          let (x, y) = (a[row][p], a[row][q])
          (a[row][p], a[row][q]) = (c * x - s * y, s * x + c * y)
        }
        let (vp, vq) = (vectors[p], vectors[q])
        (vectors[p], vectors[q]) = (c * vp - s * vq, s * vp + c * vq)
      }
    }
    let largest = (0..<3).max { a[$0][$0] < a[$1][$1] } ?? 0
    return vectors[largest]
  }
}
