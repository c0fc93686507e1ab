import Glibc

/// One channel of a picture, rows from top to bottom.
struct Plane: Sendable {
  let width: Int
  let height: Int
  var values: [Float]

  init(width: Int, height: Int, values: [Float]) {
    precondition(values.count == width * height, "\(values.count) values for \(width)x\(height)")
    (self.width, self.height, self.values) = (width, height, values)
  }

  /// Values of a Gaussian at whole distances 0…r, both sides of which sum to 1; r covers three sigmas.
  static func gaussian(_ sigma: Float) -> [Float] {
    let radius = max(1, Int(3 * sigma + 0.5))
    let values = (0...radius).map { expf(-0.5 * (Float($0) / sigma) * (Float($0) / sigma)) }
    let sum = values[0] + 2 * values[1...].reduce(0, +)
    return values.map { $0 / sum }
  }

  /// Blurred with a Gaussian; the border is repeated outwards.
  func blurred(_ sigma: Float) -> Plane {
    guard sigma > 0 else { return self }
    let taps = Self.gaussian(sigma)
    return filtered(taps, count: width, step: 1, lines: height, lineStep: width)
      .filtered(taps, count: height, step: width, lines: width, lineStep: 1)
  }

  /// Each of `lines` lines of `count` values, `step` apart, under a symmetric filter.
  private func filtered(_ taps: [Float], count: Int, step: Int, lines: Int, lineStep: Int) -> Plane {
    var result = self
    let last = count - 1
    values.withUnsafeBufferPointer { source in
      result.values.withUnsafeMutableBufferPointer { target in
        for line in 0..<lines {
          let start = line * lineStep
          for i in 0..<count {
            var sum = taps[0] * source[start + i * step]
            for r in 1..<taps.count {
              sum +=
                taps[r] * (source[start + max(0, i - r) * step] + source[start + min(last, i + r) * step])
            }
            target[start + i * step] = sum
          }
        }
      }
    }
    return result
  }

  /// Central differences along rows and columns: fourth order inside, second order beside the border, 0 on it.
  var gradients: (dx: [Float], dy: [Float]) {
    var dx = [Float](repeating: 0, count: values.count)
    var dy = dx
    func slope(_ at: Int, _ step: Int, _ i: Int, _ count: Int) -> Float {
      guard i > 0, i < count - 1 else { return 0 }
      let near = values[at + step] - values[at - step]
      guard i > 1, i < count - 2 else { return near / 2 }
      return (8 * near - (values[at + 2 * step] - values[at - 2 * step])) / 12
    }
    for y in 0..<height {
      for x in 0..<width {
        let at = y * width + x
        dx[at] = slope(at, 1, x, width)
        dy[at] = slope(at, width, y, height)
      }
    }
    return (dx, dy)
  }

  /// Where any value within `radius` pixels, along rows and columns, exceeds a threshold.
  func grown(above threshold: Float, radius: Int) -> [Bool] {
    var result = [Bool](repeating: false, count: values.count)
    for y in 0..<height {
      for x in 0..<width where values[y * width + x] > threshold {
        for j in max(0, y - radius)...min(height - 1, y + radius) {
          for i in max(0, x - radius)...min(width - 1, x + radius) { result[j * width + i] = true }
        }
      }
    }
    return result
  }
}
