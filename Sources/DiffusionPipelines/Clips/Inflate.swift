// Format: RFC 1950 (zlib) and RFC 1951 (deflate).

/// Unpacks a zlib stream of known length.
struct Inflate {
  /// Why a stream cannot be unpacked.
  struct Failure: Error { let reason: String }

  private let input: [UInt8]
  private var position: Int
  private var bits: UInt64 = 0
  private var bitCount = 0
  private var output: [UInt8] = []
  private let limit: Int

  /// - Parameter count: bytes of the unpacked data; another number is an error.
  static func unpack(_ stream: [UInt8], count: Int) throws(Failure) -> [UInt8] {
    guard stream.count >= 6, stream[0] & 15 == 8, (Int(stream[0]) << 8 + Int(stream[1])) % 31 == 0,
      stream[1] & 32 == 0
    else { throw Failure(reason: "its data is no zlib stream") }
    // Deflate packs 1032 bytes into one at best: a larger claim is not worth an allocation.
    guard count / 1040 <= stream.count else { throw Failure(reason: "its data is too short for its size") }
    var inflate = Inflate(stream, limit: count)
    try inflate.run()
    guard inflate.output.count == count else { throw Failure(reason: "its data is too short for its size") }
    return inflate.output
  }

  private init(_ input: [UInt8], limit: Int) {
    self.input = input
    position = 2
    self.limit = limit
    output.reserveCapacity(limit)
  }

  private mutating func run() throws(Failure) {
    var isLast = false
    while !isLast {
      isLast = try take(1) == 1
      switch try take(2) {
      case 0: try copyStored()
      case 1: try decode(Self.fixedLengths, Self.fixedDistances)
      case 2:
        let (lengths, distances) = try readCodes()
        try decode(lengths, distances)
      default: throw Failure(reason: "its data has a block of an unknown kind")
      }
    }
  }

  private mutating func fill() {
    while bitCount <= 48, position < input.count {
      bits |= UInt64(input[position]) << UInt64(bitCount)
      position += 1
      bitCount += 8
    }
  }

  private mutating func take(_ count: Int) throws(Failure) -> Int {
    if bitCount < count { fill() }
    guard bitCount >= count else { throw Failure(reason: "its data ends early") }
    let value = Int(bits & ((1 << UInt64(count)) - 1))
    bits >>= UInt64(count)
    bitCount -= count
    return value
  }

  private mutating func symbol(_ code: HuffmanCode) throws(Failure) -> Int {
    if bitCount < 15 { fill() }
    let entry = code.table[Int(bits & 0x7fff)]
    let length = Int(entry & 15)
    guard length > 0, length <= bitCount else { throw Failure(reason: "its data is damaged") }
    bits >>= UInt64(length)
    bitCount -= length
    return Int(entry >> 4)
  }

  private mutating func copyStored() throws(Failure) {
    _ = try take(bitCount % 8)
    let (length, complement) = (try take(16), try take(16))
    guard length == complement ^ 0xffff else { throw Failure(reason: "its data is damaged") }
    guard output.count + length <= limit else { throw Failure(reason: "its data is longer than its size") }
    for _ in 0..<length { output.append(UInt8(try take(8))) }
  }

  private mutating func readCodes() throws(Failure) -> (HuffmanCode, HuffmanCode) {
    let (lengthCount, distanceCount) = (try take(5) + 257, try take(5) + 1)
    let order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]
    var lengths = [Int](repeating: 0, count: 19)
    for index in 0..<(try take(4) + 4) { lengths[order[index]] = try take(3) }
    let outer = try HuffmanCode(lengths)
    lengths = []
    while lengths.count < lengthCount + distanceCount {
      switch try symbol(outer) {
      case let value where value < 16: lengths.append(value)
      case 16:
        guard let last = lengths.last else { throw Failure(reason: "its data is damaged") }
        lengths += [Int](repeating: last, count: 3 + (try take(2)))
      case 17: lengths += [Int](repeating: 0, count: 3 + (try take(3)))
      default: lengths += [Int](repeating: 0, count: 11 + (try take(7)))
      }
    }
    guard lengths.count == lengthCount + distanceCount else { throw Failure(reason: "its data is damaged") }
    return (
      try HuffmanCode(Array(lengths[..<lengthCount])), try HuffmanCode(Array(lengths[lengthCount...]))
    )
  }

  private mutating func decode(_ lengths: HuffmanCode, _ distances: HuffmanCode) throws(Failure) {
    while true {
      let value = try symbol(lengths)
      if value == 256 { return }
      if value < 256 {
        guard output.count < limit else { throw Failure(reason: "its data is longer than its size") }
        output.append(UInt8(value))
        continue
      }
      guard value < 286 else { throw Failure(reason: "its data is damaged") }
      let length = Self.lengthBases[value - 257] + (try take(Self.lengthExtras[value - 257]))
      let code = try symbol(distances)
      guard code < 30 else { throw Failure(reason: "its data is damaged") }
      let distance = Self.distanceBases[code] + (try take(code < 2 ? 0 : code / 2 - 1))
      guard distance <= output.count else { throw Failure(reason: "its data is damaged") }
      guard output.count + length <= limit else { throw Failure(reason: "its data is longer than its size") }
      for _ in 0..<length { output.append(output[output.count - distance]) }
    }
  }

  private static let lengthExtras =
    [Int](repeating: 0, count: 8) + (1...5).flatMap { [Int](repeating: $0, count: 4) } + [0]
  private static let lengthBases: [Int] = {
    var bases: [Int] = []
    var next = 3
    for extra in lengthExtras.dropLast() {
      bases.append(next)
      next += 1 << extra
    }
    return bases + [258]
  }()
  private static let distanceBases: [Int] = {
    var bases: [Int] = []
    var next = 1
    for code in 0..<30 {
      bases.append(next)
      next += 1 << (code < 2 ? 0 : code / 2 - 1)
    }
    return bases
  }()
  private static let fixedLengths = HuffmanCode(
    valid: (0..<288).map { $0 < 144 ? 8 : $0 < 256 ? 9 : $0 < 280 ? 7 : 8 })
  private static let fixedDistances = HuffmanCode(valid: [Int](repeating: 5, count: 30))
}

/// A prefix code as a table over the next 15 bits: symbol times 16 plus length, 0 where no code begins so.
private struct HuffmanCode: Sendable {
  private(set) var table = [UInt16](repeating: 0, count: 1 << 15)

  /// - Throws: when more codes are claimed than there is room for.
  init(_ lengths: [Int]) throws(Inflate.Failure) {
    var room = 1 << 15
    for length in lengths where length > 0 { room -= 1 << (15 - length) }
    guard room >= 0 else { throw Inflate.Failure(reason: "its data is damaged") }
    self.init(valid: lengths)
  }

  init(valid lengths: [Int]) {
    var next = 0
    for length in 1...15 {
      for (symbol, own) in lengths.enumerated() where own == length {
        // Codes are sent from their highest bit on, and the table is indexed from the lowest.
        var reversed = 0
        for bit in 0..<length where next >> bit & 1 == 1 { reversed |= 1 << (length - 1 - bit) }
        for index in stride(from: reversed, to: 1 << 15, by: 1 << length) {
          table[index] = UInt16(symbol << 4 | length)
        }
        next += 1
      }
      next <<= 1
    }
  }
}
