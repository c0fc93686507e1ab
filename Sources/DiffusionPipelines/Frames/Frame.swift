import TensorCore

/// One RGB picture: 8 bits a channel, rows from top to bottom without gaps.
public struct Frame: Sendable, Equatable {
  public let width: Int
  public let height: Int
  /// `width * height * 3` bytes.
  public var pixels: [UInt8]

  /// - Parameter pixels: `width * height * 3` bytes.
  public init(width: Int, height: Int, pixels: [UInt8]) {
    precondition(pixels.count == width * height * 3, "\(pixels.count) bytes for \(width)x\(height)")
    self.width = width
    self.height = height
    self.pixels = pixels
  }

  /// Values `[1, H, W, 3]` as `byte * scale + shift`, extended to `height` by `width` by repeating the
  /// border.
  func tensor(height paddedHeight: Int, width paddedWidth: Int, scale: Float, shift: Float) -> Tensor {
    Tensor(shape: [1, height, width, 3]) { values in
      for index in 0..<pixels.count { values[index] = Float(pixels[index]) * scale + shift }
    }.paddedByEdge(height: paddedHeight, width: paddedWidth)
  }

  /// The upper left `height` by `width` of a picture `[1, H, W, 3]`, bytes as round(`value * scale + shift`)
  /// clamped.
  init(_ picture: Tensor, height: Int, width: Int, scale: Float, shift: Float) {
    let source = picture.narrow(1, from: 0, length: height).narrow(2, from: 0, length: width)
    let pixels = source.withFloats { values in
      values.map { UInt8(max(0, min(255, ($0 * scale + shift).rounded(.toNearestOrEven)))) }
    }
    self.init(width: width, height: height, pixels: pixels)
  }

  /// `a * (1 - weight) + b * weight`, rounded.
  static func blend(_ a: Frame, _ b: Frame, weight: Float) -> Frame {
    var result = a
    let second = Int32((weight * 256).rounded())
    let first = 256 - second
    for index in 0..<a.pixels.count {
      result.pixels[index] = UInt8(
        (Int32(a.pixels[index]) * first + Int32(b.pixels[index]) * second + 128) >> 8)
    }
    return result
  }
}
