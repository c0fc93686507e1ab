/// Changes inputs a little: bits, bytes, numbers, pieces, and words of the target's format.
public struct Mutator {
  private var random: Sequence

  public init(seed: UInt64) { random = Sequence(state: seed) }

  /// A number below `count`.
  public mutating func pick(_ count: Int) -> Int { Int.random(in: 0..<max(1, count), using: &random) }

  /// One to four changes to `seed`; `other` is an input to take pieces from.
  public mutating func mutated(
    _ seed: [UInt8], other: [UInt8], target: FuzzTarget, limit: Int = 1 << 16
  ) -> [UInt8] {
    var bytes = seed
    for _ in 0...pick(4) { change(&bytes, other: other, words: target.words) }
    if bytes.count > limit { bytes.removeLast(bytes.count - limit) }
    return pick(8) == 0 ? bytes : target.repair(bytes)
  }

  /// `bytes` with the target's lengths set right.
  public func repaired(_ bytes: [UInt8], target: FuzzTarget) -> [UInt8] { target.repair(bytes) }

  private mutating func change(_ bytes: inout [UInt8], other: [UInt8], words: [[UInt8]]) {
    guard !bytes.isEmpty else {
      bytes = words.isEmpty ? [0] : words[pick(words.count)]
      return
    }
    let place = pick(bytes.count)
    switch pick(12) {
    case 0: bytes[place] ^= 1 << UInt8(pick(8))
    case 1: bytes[place] = UInt8(pick(256))
    case 2: bytes.removeSubrange(place..<min(bytes.count, place + 1 + pick(8)))
    case 3: bytes.removeLast(min(bytes.count - 1, pick(40)))
    case 4:
      let end = min(bytes.count, place + 1 + pick(60))
      bytes.insert(contentsOf: bytes[place..<end], at: pick(bytes.count))
    case 5 where !other.isEmpty:
      let start = pick(other.count)
      let piece = other[start..<min(other.count, start + 1 + pick(200))]
      if pick(2) == 0 {
        bytes.insert(contentsOf: piece, at: place)
      } else {
        bytes.replaceSubrange(place..<min(bytes.count, place + piece.count), with: piece)
      }
    case 6, 7: number(&bytes, from: place)
    case 8: lengthField(&bytes, at: place)
    default:
      guard !words.isEmpty else { return }
      let word = words[pick(words.count)]
      if pick(2) == 0 {
        bytes.insert(contentsOf: word, at: place)
      } else {
        bytes.replaceSubrange(place..<min(bytes.count, place + word.count), with: word)
      }
    }
  }

  /// The next number in digits becomes another one.
  private mutating func number(_ bytes: inout [UInt8], from place: Int) {
    guard let start = bytes[place...].firstIndex(where: { (0x30...0x39).contains($0) }) else { return }
    if pick(2) == 0 {
      bytes[start] = 0x30 + UInt8(pick(10))
      return
    }
    let end = bytes[start...].firstIndex { !(0x30...0x39).contains($0) } ?? bytes.count
    let numbers = [
      "0", "1", "2", "7", "255", "65536", "1000000", "4294967296", "9223372036854775807", "1e30", "-3",
    ]
    bytes.replaceSubrange(start..<end, with: Array(numbers[pick(numbers.count)].utf8))
  }

  /// A little-endian number of 1 to 8 bytes becomes a borderline one.
  private mutating func lengthField(_ bytes: inout [UInt8], at place: Int) {
    let width = [1, 2, 4, 8][pick(4)]
    let values: [UInt64] = [
      0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, UInt64(bytes.count), .max, .max >> 1,
    ]
    let value = values[pick(values.count)]
    for index in 0..<width where place + index < bytes.count {
      bytes[place + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * index))
    }
  }

  /// SplitMix64.
  private struct Sequence: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
      state &+= 0x9e37_79b9_7f4a_7c15
      var z = state
      z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
      z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
      return z ^ (z >> 31)
    }
  }
}
