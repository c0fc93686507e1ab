import Glibc

/// Bicubic interpolation at any position of a picture.
enum Bicubic {
  /// Weights of the four neighbours of a position `t` past the second of them; `sharpness` is Keys's parameter, -0.5
  /// for exact quadratics, -0.75 as torch has it.
  static func weights(_ t: Float, _ sharpness: Float) -> SIMD4<Float> {
    func inner(_ x: Float) -> Float { ((sharpness + 2) * x - (sharpness + 3)) * x * x + 1 }
    func outer(_ x: Float) -> Float {
      ((sharpness * x - 5 * sharpness) * x + 8 * sharpness) * x - 4 * sharpness
    }
    return SIMD4(outer(t + 1), inner(t), inner(1 - t), outer(2 - t))
  }

  /// The value at column `x`, row `y`, where whole numbers are centres of pixels; the border is repeated outwards.
  static func sample(
    _ pixels: UnsafeBufferPointer<SIMD4<Float>>, width: Int, height: Int, x: Float, y: Float,
    sharpness: Float
  ) -> SIMD4<Float> {
    // Beyond two pixels outside only the border is seen, so far positions can be brought near.
    let (x, y) = (max(-3, min(Float(width) + 2, x)), max(-3, min(Float(height) + 2, y)))
    let (left, top) = (floorf(x), floorf(y))
    let (wx, wy) = (weights(x - left, sharpness), weights(y - top, sharpness))
    let (column, row) = (Int(left) - 1, Int(top) - 1)
    var result = SIMD4<Float>.zero
    for j in 0..<4 {
      let line = max(0, min(height - 1, row + j)) * width
      var sum = SIMD4<Float>.zero
      for i in 0..<4 { sum += wx[i] * pixels[line + max(0, min(width - 1, column + i))] }
      result += wy[j] * sum
    }
    return result
  }
}
