import DiffusionLayers
import TensorCore
import Testing

/// Thousands of damaged files, always the same ones: the reader must refuse or read each, and never trap.
@Suite struct SafetensorsFuzzTests {
  @Test func survivesDamage() throws {
    var random = Sequence64(state: 20_261_121)
    let seeds = try Self.seeds()
    var accepted = 0
    var refused: [String: Int] = [:]
    for round in 0..<6000 {
      let bytes = Self.mutated(seeds[round % seeds.count], &random)
      do {
        let file = try SafetensorsFile(source: memory(bytes))
        try Self.readEverything(file, size: bytes.count)
        accepted += 1
      } catch let error as WeightsError {
        #expect(!error.description.isEmpty)
        refused[Mirror(reflecting: error).children.first?.label ?? "none", default: 0] += 1
      }
    }
    // The damage is neither so weak that all pass nor so strong that one check hides all the others.
    #expect(accepted > 200, "only \(accepted) files passed")
    #expect(refused.count > 15, "only \(refused.keys.sorted()) were seen")
  }

  /// Reads each tensor, which also checks that nothing claims more than the file holds.
  private static func readEverything(_ file: SafetensorsFile, size: Int) throws {
    var total = 0
    for name in file.names {
      let entry = try #require(file.entries[name])
      #expect(entry.range.lowerBound >= 8 && entry.range.upperBound <= size)
      #expect(entry.shape.reduce(entry.dtype.byteSize, *) == entry.range.count)
      total += entry.range.count
      if entry.dtype.isFloatingPoint {
        if entry.count > 0 { #expect(try file.load(name, checkFinite: false).count == entry.count) }
      } else {
        #expect(try file.integers(name).count == entry.count)
      }
    }
    #expect(total <= size)
    #expect(file.residentBytes <= UInt64(size) * 2)
  }

  private static func seeds() throws -> [[UInt8]] {
    var plain = SafetensorsWriter(metadata: [("format", "pt"), ("note", "α\n\"quoted\"")])
    plain.add("blocks.0.attn1.to_q.weight", Tensor.zeros([4, 6]))
    plain.add("blocks.0.attn1.to_q.bias", Tensor.zeros([4]))
    plain.add("frames", bytes: [UInt8](repeating: 7, count: 24), dtype: .uint8, shape: [2, 2, 2, 3])
    plain.add("steps", integers: [1, 2, 3], shape: [3])
    let many =
      "{"
      + (0..<12).map {
        #""t\#($0)":{"dtype":"BF16","shape":[1,\#($0)],"data_offsets":[\#($0 * ($0 - 1)),\#($0 * ($0 + 1))]}"#
      }
      .joined(separator: " , ") + "}  "
    let tiny = #"{"t":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}"#
    return [try serialized(plain), crafted(many, data: 132), crafted(tiny, data: 4)]
  }

  private static let tokens: [[UInt8]] =
    [
      "0", "1", "-1", "1e9", "1.5", "18446744073709551615", "9223372036854775807", "4294967296", "[", "]",
      "{", "}",
      "[[[[[[[[", "{\"a\":", "\"", "\\", "\\u0000", "\\ud800", ",", ":", "null", "true", " ", "\"dtype\"",
      "\"shape\"",
      "\"data_offsets\"", "\"__metadata__\"", "\"F64\"", "\"BOOL\"", "\0", "\u{7f}",
    ].map { Array($0.utf8) } + [[0xff], [0xc3, 0x28], [0xed, 0xa0, 0x80]]

  /// One to three changes to the header, the data or the length field; the length is often put right again, so that
  /// damage reaches the deeper checks.
  private static func mutated(_ seed: [UInt8], _ random: inout Sequence64) -> [UInt8] {
    var bytes = seed
    let keepsLength = random.next() % 4 != 0
    let headerLength = Int(seed[0]) | Int(seed[1]) << 8
    for _ in 0..<Int.random(in: 1...3, using: &random) {
      guard bytes.count > 16 else { break }
      let isDeep = random.next() % 8 == 0
      let place =
        isDeep
        ? Int.random(in: 0..<bytes.count, using: &random)
        : 8 + Int.random(in: 0..<min(headerLength, bytes.count - 8), using: &random)
      switch random.next() % 10 {
      case 0: bytes[place] ^= 1 << UInt8(random.next() % 8)
      case 1: bytes[place] = UInt8(truncatingIfNeeded: random.next())
      case 2: bytes.insert(contentsOf: tokens.randomElement(using: &random) ?? [], at: place)
      case 3: bytes.removeSubrange(place..<min(bytes.count, place + 1 + Int(random.next() % 6)))
      case 4:
        let token = tokens.randomElement(using: &random) ?? []
        bytes.replaceSubrange(place..<min(bytes.count, place + token.count), with: token)
      case 5:
        let end = min(bytes.count, place + Int(random.next() % 60))
        bytes.insert(contentsOf: bytes[place..<end], at: place)
      default:
        // A digit becomes another digit: the text stays well formed and the numbers stop agreeing.
        if let digit = bytes[place...].firstIndex(where: { (0x30...0x39).contains($0) }) {
          bytes[digit] = 0x30 + UInt8(random.next() % 10)
        }
      }
    }
    if random.next() % 16 == 0 { bytes.removeLast(min(bytes.count, Int(random.next() % 40))) }
    guard bytes.count >= 8 else { return bytes }
    if keepsLength {
      let grown = bytes.count - seed.count
      let length = UInt64(max(0, headerLength + grown))
      bytes.replaceSubrange(0..<8, with: littleEndian(length))
    }
    return bytes
  }
}
