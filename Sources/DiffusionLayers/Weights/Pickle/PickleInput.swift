/// A part of a file that is read forward through a small buffer.
struct PickleInput {
  let file: String
  /// The place of the next byte in the file.
  private(set) var position: Int
  let end: Int
  private let start: Int
  private let source: ByteSource
  private let bufferSize: Int
  private var buffer: [UInt8] = []
  private var bufferStart = 0

  init(_ source: ByteSource, _ range: Range<Int>, bufferSize: Int = 1 << 15) {
    self.source = source
    self.bufferSize = bufferSize
    file = source.name
    start = range.lowerBound
    position = start
    end = range.upperBound
    bufferStart = position
  }

  /// Bytes that have been read.
  var consumed: Int { position - start }

  /// Bytes that are left.
  var remaining: Int { end - position }

  mutating func byte() throws(PickleError) -> UInt8 {
    if position - bufferStart >= buffer.count { try refill() }
    defer { position += 1 }
    return buffer[position - bufferStart]
  }

  /// The next `count` bytes; the count is checked against what is left before anything is allocated.
  mutating func bytes(_ count: UInt64) throws(PickleError) -> [UInt8] {
    guard count <= UInt64(remaining) else { throw tooShort }
    let count = Int(count)
    let at = position - bufferStart
    if at >= 0, at + count <= buffer.count {
      position += count
      return Array(buffer[at..<(at + count)])
    }
    let result: [UInt8]
    do { result = try source.bytes(position..<(position + count)) } catch { throw .file(error) }
    position += count
    return result
  }

  /// A little-endian number of `T`'s size.
  mutating func integer<T: FixedWidthInteger>(_ type: T.Type) throws(PickleError) -> T {
    guard remaining >= MemoryLayout<T>.size else { throw tooShort }
    var value: T = 0
    for index in 0..<MemoryLayout<T>.size {
      value |= T(truncatingIfNeeded: try byte()) << T(truncatingIfNeeded: 8 * index)
    }
    return value
  }

  /// The bytes up to a line feed, which is consumed; at most 64 KiB.
  mutating func line() throws(PickleError) -> [UInt8] {
    var text: [UInt8] = []
    while true {
      let next = try byte()
      if next == UInt8(ascii: "\n") { return text }
      if text.count == 1 << 16 { throw damaged("a line of more than 65536 bytes") }
      text.append(next)
    }
  }

  /// Passes over bytes.
  mutating func skip(_ count: Int) throws(PickleError) {
    guard count >= 0, count <= remaining else { throw tooShort }
    position += count
  }

  func damaged(_ reason: String) -> PickleError { .damaged(file: file, reason: reason, offset: position) }

  private var tooShort: PickleError { damaged("it ends too early") }

  private mutating func refill() throws(PickleError) {
    guard position < end else { throw tooShort }
    do {
      buffer = try source.bytes(position..<min(end, position + bufferSize))
      bufferStart = position
    } catch {
      throw .file(error)
    }
  }
}
