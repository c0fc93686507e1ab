// Format: wiki.multimedia.cx/index.php/YUV4MPEG2.

import DiffusionLayers

/// The header of a raw video file and the conversion between its pixels and RGB.
///
/// Colours follow GStreamer's defaults: BT.601 up to 576 lines and BT.709 above, limited range unless the file says
/// `XCOLORRANGE=FULL`. Subsampled chroma is repeated. Written files are C444.
package struct Y4MFormat: Sendable, Equatable {
  package enum Chroma: Sendable { case c444, c422, c420, mono }

  package var width: Int
  package var height: Int
  package var rate: FrameRate
  package var chroma = Chroma.c444
  package var isFullRange = false

  package init(width: Int, height: Int, rate: FrameRate) {
    (self.width, self.height, self.rate) = (width, height, rate)
  }

  /// Reads the first line of a file.
  package init(line: String, file: String) throws(ClipError) {
    func refuse(_ reason: String) -> ClipError { ClipError("'\(file)': \(reason)") }
    let fields = line.split(separator: " ")
    guard fields.first == "YUV4MPEG2" else { throw refuse("is no y4m file; it must start with YUV4MPEG2") }
    (width, height, rate, chroma) = (0, 0, FrameRate(25), .c420)
    for field in fields.dropFirst() {
      let value = String(field.dropFirst())
      switch field.first {
      case "W": width = Int(value) ?? 0
      case "H": height = Int(value) ?? 0
      case "F": rate = FrameRate(argument: value.replacing(":", with: "/")) ?? FrameRate(25)
      case "I" where value != "p" && value != "?": throw refuse("is interlaced; deinterlace it first")
      case "C": chroma = try Self.chroma(value, file)
      case "X" where value == "COLORRANGE=FULL": isFullRange = true
      default: break
      }
    }
    guard (1...16384).contains(width), (1...16384).contains(height) else {
      throw refuse("the picture size must lie in 1…16384, its header says \(width)x\(height)")
    }
  }

  private static func chroma(_ name: String, _ file: String) throws(ClipError) -> Chroma {
    switch name {
    case "444": .c444
    case "422": .c422
    case "420", "420jpeg", "420mpeg2", "420paldv": .c420
    case "mono": .mono
    default:
      throw ClipError(
        "'\(file)': the pixel format C\(name) is not supported; use 8-bit 420, 422, 444 or mono")
    }
  }

  package var header: String {
    "YUV4MPEG2 W\(width) H\(height) F\(rate.numerator):\(rate.denominator) Ip A1:1 C444\n"
  }

  /// Width and height of a chroma plane.
  private var chromaSize: (width: Int, height: Int) {
    switch chroma {
    case .c444: (width, height)
    case .c422: ((width + 1) / 2, height)
    case .c420: ((width + 1) / 2, (height + 1) / 2)
    case .mono: (0, 0)
    }
  }

  /// Bytes of one picture.
  package var frameBytes: Int { width * height + 2 * chromaSize.width * chromaSize.height }

  /// Weights of red and blue in the luma.
  private var weights: (red: Float, blue: Float) { height > 576 ? (0.2126, 0.0722) : (0.299, 0.114) }

  /// RGB to planes.
  package func encode(_ frame: Frame) -> [UInt8] {
    let (kr, kb) = weights
    let count = width * height
    var planes = [UInt8](repeating: 0, count: 3 * count)
    for index in 0..<count {
      let (r, g, b) = (
        Float(frame.pixels[3 * index]), Float(frame.pixels[3 * index + 1]), Float(frame.pixels[3 * index + 2])
      )
      let y = kr * r + (1 - kr - kb) * g + kb * b
      planes[index] = Self.byte(16 + y * (219 / 255))
      planes[count + index] = Self.byte(128 + (b - y) / (2 * (1 - kb)) * (224 / 255))
      planes[2 * count + index] = Self.byte(128 + (r - y) / (2 * (1 - kr)) * (224 / 255))
    }
    return planes
  }

  /// Planes to RGB; `planes` has `frameBytes` bytes.
  package func decode(_ planes: [UInt8]) -> Frame {
    let (kr, kb) = weights
    let (chromaWidth, chromaHeight) = chromaSize
    let blue = width * height
    let red = blue + chromaWidth * chromaHeight
    let (lumaScale, chromaScale): (Float, Float) = isFullRange ? (1, 1) : (255 / 219, 255 / 224)
    let black: Float = isFullRange ? 0 : 16
    var pixels = [UInt8](repeating: 0, count: 3 * width * height)
    for y in 0..<height {
      let chromaRow = (chromaHeight == height ? y : y / 2) * chromaWidth
      for x in 0..<width {
        let luma = (Float(planes[y * width + x]) - black) * lumaScale
        var (u, v): (Float, Float) = (0, 0)
        if chroma != .mono {
          let index = chromaRow + (chromaWidth == width ? x : x / 2)
          u = (Float(planes[blue + index]) - 128) * chromaScale * 2 * (1 - kb)
          v = (Float(planes[red + index]) - 128) * chromaScale * 2 * (1 - kr)
        }
        let (r, b) = (luma + v, luma + u)
        let g = (luma - kr * r - kb * b) / (1 - kr - kb)
        let target = 3 * (y * width + x)
        pixels[target] = Self.byte(r)
        pixels[target + 1] = Self.byte(g)
        pixels[target + 2] = Self.byte(b)
      }
    }
    return Frame(width: width, height: height, pixels: pixels)
  }

  private static func byte(_ value: Float) -> UInt8 { UInt8(max(0, min(255, value.rounded()))) }
}
