package import DiffusionPipelines
import Glibc
import TensorCore

/// A source picture that windows of any place, size and turn are cut from, by bicubic interpolation between pixels.
///
/// Whole-pixel crops would judder, and an adapter would learn the judder. A source with more pixels than the clip shows
/// is blurred first, by the same amount for every frame, so that it does not flicker either.
package struct PictureSampler: Sendable {
  private let width: Int
  private let height: Int
  private let pixels: [SIMD4<Float>]

  /// - Parameter scale: pixels of the source to one of the clip where the window is largest.
  package init(_ frame: Frame, scale: Float) {
    (width, height) = (frame.width, frame.height)
    var channels = (0..<3).map { c in
      Plane(
        width: frame.width, height: frame.height,
        values: (0..<frame.width * frame.height).map { Float(frame.pixels[3 * $0 + c]) })
    }
    if scale > 1 {
      let sigma = 0.5 * (scale * scale - 1).squareRoot()
      channels = channels.map { $0.blurred(sigma) }
    }
    pixels = (0..<frame.width * frame.height).map {
      SIMD4(channels[0].values[$0], channels[1].values[$0], channels[2].values[$0], 0)
    }
  }

  /// What a window shows, as a picture of `width` by `height`.
  package func picture(_ window: CropWindow, of geometry: SourceGeometry, width: Int, height: Int) -> Frame {
    let values = values(window, of: geometry, width: width, height: height)
    var bytes = [UInt8](repeating: 0, count: 3 * width * height)
    for (index, value) in values.enumerated() {
      for c in 0..<3 { bytes[3 * index + c] = UInt8(max(0, min(255, value[c].rounded(.toNearestOrEven)))) }
    }
    return Frame(width: width, height: height, pixels: bytes)
  }

  private func values(_ window: CropWindow, of geometry: SourceGeometry, width: Int, height: Int)
    -> [SIMD4<Float>]
  {
    let step = SIMD2(
      geometry.baseWidth * window.side / Float(width), geometry.baseHeight * window.side / Float(height))
    let centre = SIMD2(
      Float(self.width) / 2 + window.x * geometry.baseWidth - 0.5,
      Float(self.height) / 2 + window.y * geometry.baseHeight - 0.5)
    let (c, s) = (cosf(window.turn), sinf(window.turn))
    var result = [SIMD4<Float>](repeating: .zero, count: width * height)
    pixels.withUnsafeBufferPointer { source in
      result.withUnsafeMutableBufferPointer { target in
        for row in 0..<height {
          let y = (Float(row) + 0.5 - Float(height) / 2) * step.y
          for column in 0..<width {
            let x = (Float(column) + 0.5 - Float(width) / 2) * step.x
            target[row * width + column] = Bicubic.sample(
              source, width: self.width, height: self.height, x: centre.x + c * x - s * y,
              y: centre.y + s * x + c * y, sharpness: -0.5)
          }
        }
      }
    }
    return result
  }
}
