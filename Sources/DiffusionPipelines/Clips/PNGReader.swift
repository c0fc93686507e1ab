// Format: w3.org/TR/png.

package import DiffusionLayers

/// Reads PNG pictures of all colour types as RGB; 16 bits are cut to 8, transparency is left out, interlacing is
/// refused.
package enum PNGReader {
  /// Width and height, without the picture.
  package static func size(_ source: ByteSource) throws -> (width: Int, height: Int) {
    let header = try Header(try source.bytes(0..<min(33, source.count)), source.name)
    return (header.width, header.height)
  }

  /// - Throws: `ClipError` or `WeightsError` naming the file.
  package static func read(_ source: ByteSource) throws -> Frame {
    guard source.count <= 1 << 30 else { throw ClipError("'\(source.name)' is larger than 1 GiB") }
    let bytes = try source.bytes(0..<source.count)
    let header = try Header(bytes, source.name)
    var (packed, palette): ([UInt8], [UInt8]) = ([], [])
    var position = 8
    while position < bytes.count {
      guard bytes.count - position >= 12 else { throw damaged(source.name, "it ends inside a chunk") }
      let length = bigEndian(bytes, position)
      guard length <= bytes.count - position - 12 else {
        throw damaged(source.name, "it ends inside a chunk")
      }
      let kind = String(decoding: bytes[(position + 4)..<(position + 8)], as: UTF8.self)
      let data = (position + 8)..<(position + 8 + length)
      position = data.upperBound + 4
      switch kind {
      case "IDAT": packed += bytes[data]
      case "PLTE": palette = Array(bytes[data])
      case "IEND": position = bytes.count
      default: continue
      }
    }
    let rows: [UInt8]
    do {
      rows = try Inflate.unpack(packed, count: header.height * (header.rowBytes + 1))
    } catch {
      throw damaged(source.name, error.reason)
    }
    return try header.picture(try header.unfiltered(rows, source.name), palette, source.name)
  }

  static func damaged(_ file: String, _ reason: String) -> ClipError {
    ClipError("'\(file)' is damaged: \(reason); write the picture anew")
  }

  private static func bigEndian(_ bytes: [UInt8], _ at: Int) -> Int {
    (0..<4).reduce(0) { $0 << 8 | Int(bytes[at + $1]) }
  }

  private struct Header {
    let width: Int
    let height: Int
    let depth: Int
    /// Samples of a pixel.
    let channels: Int
    let isPalette: Bool

    init(_ bytes: [UInt8], _ file: String) throws(ClipError) {
      guard bytes.count >= 33, Array(bytes[..<8]) == [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a],
        Array(bytes[12..<16]) == Array("IHDR".utf8)
      else { throw ClipError("'\(file)' is no PNG picture") }
      (width, height) = (PNGReader.bigEndian(bytes, 16), PNGReader.bigEndian(bytes, 20))
      depth = Int(bytes[24])
      guard (1...16384).contains(width), (1...16384).contains(height) else {
        throw ClipError("'\(file)': the picture size must lie in 1…16384, its header says \(width)x\(height)")
      }
      let kinds = [
        0: (1, [1, 2, 4, 8, 16]), 2: (3, [8, 16]), 3: (1, [1, 2, 4, 8]), 4: (2, [8, 16]), 6: (4, [8, 16]),
      ]
      guard let (channels, depths) = kinds[Int(bytes[25])], depths.contains(depth), bytes[26] == 0,
        bytes[27] == 0
      else { throw PNGReader.damaged(file, "its header names a format that does not exist") }
      guard bytes[28] == 0 else {
        throw ClipError("'\(file)' is an interlaced PNG; write it without interlacing")
      }
      self.channels = channels
      isPalette = bytes[25] == 3
    }

    var rowBytes: Int { (width * channels * depth + 7) / 8 }

    /// Rows without their filters, still packed.
    func unfiltered(_ rows: [UInt8], _ file: String) throws(ClipError) -> [UInt8] {
      let step = max(1, channels * depth / 8)
      var result = [UInt8](repeating: 0, count: height * rowBytes)
      for y in 0..<height {
        let (from, to) = (y * (rowBytes + 1), y * rowBytes)
        let filter = rows[from]
        guard filter <= 4 else { throw PNGReader.damaged(file, "row \(y) has an unknown filter") }
        for i in 0..<rowBytes {
          let left = i >= step ? Int(result[to + i - step]) : 0
          let up = y > 0 ? Int(result[to + i - rowBytes]) : 0
          let corner = y > 0 && i >= step ? Int(result[to + i - rowBytes - step]) : 0
          let guess =
            switch filter {
            case 1: left
            case 2: up
            case 3: (left + up) / 2
            case 4: Self.paeth(left, up, corner)
            default: 0
            }
          result[to + i] = rows[from + 1 + i] &+ UInt8(guess)
        }
      }
      return result
    }

    private static func paeth(_ left: Int, _ up: Int, _ corner: Int) -> Int {
      let guess = left + up - corner
      let (a, b, c) = (abs(guess - left), abs(guess - up), abs(guess - corner))
      return a <= b && a <= c ? left : b <= c ? up : corner
    }

    func picture(_ data: [UInt8], _ palette: [UInt8], _ file: String) throws(ClipError) -> Frame {
      var pixels = [UInt8](repeating: 0, count: width * height * 3)
      for y in 0..<height {
        for x in 0..<width {
          let target = 3 * (y * width + x)
          let first = sample(data, y, x * channels)
          if isPalette {
            guard 3 * first + 2 < palette.count else {
              throw PNGReader.damaged(file, "a pixel's colour \(first) is not in its palette")
            }
            for c in 0..<3 { pixels[target + c] = palette[3 * first + c] }
          } else {
            for c in 0..<3 {
              let value = channels >= 3 && c > 0 ? sample(data, y, x * channels + c) : first
              pixels[target + c] = UInt8(depth >= 8 ? value : value * 255 / (1 << depth - 1))
            }
          }
        }
      }
      return Frame(width: width, height: height, pixels: pixels)
    }

    /// A sample of a row; of 16 bits the upper 8.
    private func sample(_ data: [UInt8], _ row: Int, _ index: Int) -> Int {
      let start = row * rowBytes
      if depth >= 8 { return Int(data[start + index * depth / 8]) }
      let bit = index * depth
      return Int(data[start + bit / 8]) >> (8 - depth - bit % 8) & (1 << depth - 1)
    }
  }
}
