// Format: w3.org/TR/png. The picture is stored, not compressed: simple, exact, and larger than it need be.

/// Writes RGB pictures as PNG.
package enum PNG {
  package static func encode(_ frame: Frame) -> [UInt8] {
    var rows: [UInt8] = []
    rows.reserveCapacity(frame.height * (frame.width * 3 + 1))
    for y in 0..<frame.height {
      rows.append(0)  // no filter
      rows += frame.pixels[(y * frame.width * 3)..<((y + 1) * frame.width * 3)]
    }
    var result: [UInt8] = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]
    // 8 bits a channel, colour type 2 (RGB), no interlace.
    result += chunk(
      "IHDR", bigEndian(UInt32(frame.width)) + bigEndian(UInt32(frame.height)) + [8, 2, 0, 0, 0])
    result += chunk("IDAT", stored(rows))
    result += chunk("IEND", [])
    return result
  }

  /// A zlib stream of stored blocks.
  private static func stored(_ bytes: [UInt8]) -> [UInt8] {
    var result: [UInt8] = [0x78, 0x01]
    for start in stride(from: 0, to: bytes.count, by: 65535) {
      let count = min(65535, bytes.count - start)
      let isLast: UInt8 = start + count == bytes.count ? 1 : 0
      let length = UInt16(count)
      result += [isLast, UInt8(length & 255), UInt8(length >> 8), UInt8(~length & 255), UInt8(~length >> 8)]
      result += bytes[start..<(start + count)]
    }
    return result + bigEndian(adler32(bytes))
  }

  private static func chunk(_ type: String, _ data: [UInt8]) -> [UInt8] {
    let body = Array(type.utf8) + data
    return bigEndian(UInt32(data.count)) + body + bigEndian(crc32(body))
  }

  private static func bigEndian(_ value: UInt32) -> [UInt8] {
    withUnsafeBytes(of: value.bigEndian) { Array($0) }
  }

  private static func adler32(_ bytes: [UInt8]) -> UInt32 {
    var (a, b): (UInt32, UInt32) = (1, 0)
    for byte in bytes {
      a = (a + UInt32(byte)) % 65521
      b = (b + a) % 65521
    }
    return b << 16 | a
  }

  private static func crc32(_ bytes: [UInt8]) -> UInt32 {
    ~bytes.reduce(UInt32.max) { table[Int(UInt8(truncatingIfNeeded: $0) ^ $1)] ^ ($0 >> 8) }
  }

  private static let table: [UInt32] = (0..<256).map { index in
    (0..<8).reduce(UInt32(index)) { value, _ in value & 1 == 1 ? 0xedb8_8320 ^ (value >> 1) : value >> 1 }
  }
}
