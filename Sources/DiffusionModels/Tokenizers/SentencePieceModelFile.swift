// Format: github.com/google/sentencepiece, src/sentencepiece_model.proto (protocol buffers) and
// src/normalizer.cc (the table of character replacements).

/// The bytes of a `spiece.model`, checked before libsentencepiece sees them.
///
/// The library trusts what stands in the file: offsets of the replacement table are followed without a look at
/// its size, and long pieces are taken apart recursively. So the structure is walked here first, and files
/// that real models never look like are refused.
struct SentencePieceModelFile {
  /// Pieces that only a special token of the text may become, such as `</s>`, with their ids.
  private(set) var specialPieces: [(text: String, id: Int)] = []
  private(set) var pieceCount = 0

  /// Why bytes are not a usable model.
  struct Rejection: Error, Equatable {
    let reason: String
  }

  private static let pieceLimit = 1_000_000
  private static let pieceBytesLimit = 1024

  init(_ bytes: [UInt8]) throws(Rejection) {
    guard !bytes.isEmpty else { throw Rejection(reason: "it is empty") }
    var fields = ProtoFields(bytes[...])
    while let field = try fields.next() {
      switch (field.number, field.value) {
      case (1, .bytes(let piece)): try add(piece)
      case (2, .bytes(let trainer)): try check(trainer: trainer)
      case (3, .bytes(let normalizer)), (5, .bytes(let normalizer)): try check(normalizer: normalizer)
      case (1...5, .number): throw Rejection(reason: "its field \(field.number) is no message")
      default: break
      }
    }
    guard pieceCount > 0 else { throw Rejection(reason: "it holds no pieces") }
  }

  /// `SentencePiece`: 1 text, 2 score, 3 kind (1 normal, 2 unknown, 3 control).
  private mutating func add(_ message: ArraySlice<UInt8>) throws(Rejection) {
    guard pieceCount < Self.pieceLimit else {
      throw Rejection(reason: "it holds more than \(Self.pieceLimit) pieces")
    }
    var text: ArraySlice<UInt8> = []
    var kind: UInt64 = 1
    var fields = ProtoFields(message)
    while let field = try fields.next() {
      switch (field.number, field.value) {
      case (1, .bytes(let bytes)): text = bytes
      case (2, .number(let bits)):
        guard Float(bitPattern: UInt32(truncatingIfNeeded: bits)).isFinite else {
          throw Rejection(reason: "the score of piece \(pieceCount) is not a number")
        }
      case (3, .number(let value)): kind = value
      case (1...3, _): throw Rejection(reason: "piece \(pieceCount) is malformed")
      default: break
      }
    }
    guard !text.isEmpty, text.count <= Self.pieceBytesLimit, !text.contains(0),
      let string = String(validating: text, as: UTF8.self)
    else { throw Rejection(reason: "piece \(pieceCount) is no text of 1 to \(Self.pieceBytesLimit) bytes") }
    if kind == 2 || kind == 3 { specialPieces.append((string, pieceCount)) }
    pieceCount += 1
  }

  /// `TrainerSpec`: 3 kind of model (1 unigram).
  private func check(trainer message: ArraySlice<UInt8>) throws(Rejection) {
    var fields = ProtoFields(message)
    while let field = try fields.next() {
      guard field.number != 3 || field.value == .number(1) else {
        throw Rejection(reason: "it is no unigram model; T5 and UMT5 come with one")
      }
    }
  }

  /// `NormalizerSpec`: 2 table of character replacements.
  private func check(normalizer message: ArraySlice<UInt8>) throws(Rejection) {
    var fields = ProtoFields(message)
    while let field = try fields.next() {
      guard field.number == 2 else { continue }
      guard case .bytes(let table) = field.value else {
        throw Rejection(reason: "its table of character replacements is malformed")
      }
      guard table.isEmpty || ReplacementTable.isSound(Array(table)) else {
        throw Rejection(reason: "its table of character replacements is damaged")
      }
    }
  }
}

/// The fields of a protocol buffer message in order, one at a time: a message of two-byte fields would take many
/// times its size as a list.
private struct ProtoFields {
  enum Value: Equatable {
    /// A varint or a fixed number, its bits.
    case number(UInt64)
    case bytes(ArraySlice<UInt8>)
  }

  private typealias Rejection = SentencePieceModelFile.Rejection
  private var rest: ArraySlice<UInt8>

  init(_ message: ArraySlice<UInt8>) {
    rest = message
  }

  /// The next field, nil at the end. Groups, which this format does not have, are refused.
  mutating func next() throws(SentencePieceModelFile.Rejection) -> (number: UInt64, value: Value)? {
    guard !rest.isEmpty else { return nil }
    let tag = try Self.varint(&rest)
    let number = tag >> 3
    guard number > 0, tag <= UInt64(UInt32.max) else { throw Self.damaged }
    switch tag & 7 {
    case 0: return (number, .number(try Self.varint(&rest)))
    case 1: return (number, .number(Self.littleEndian(try Self.take(8, &rest))))
    case 5: return (number, .number(Self.littleEndian(try Self.take(4, &rest))))
    case 2:
      let length = try Self.varint(&rest)
      guard length <= UInt64(rest.count) else { throw Self.damaged }
      return (number, .bytes(try Self.take(Int(length), &rest)))
    default: throw Self.damaged
    }
  }

  private static let damaged = Rejection(reason: "it is damaged or no SentencePiece model")

  private static func varint(_ rest: inout ArraySlice<UInt8>) throws(SentencePieceModelFile.Rejection)
    -> UInt64
  {
    var value: UInt64 = 0
    for shift in stride(from: UInt64(0), to: 70, by: 7) {
      guard let byte = rest.popFirst() else { throw damaged }
      value |= UInt64(byte & 0x7f) << shift
      if byte < 0x80 { return value }
    }
    throw damaged
  }

  private static func take(_ count: Int, _ rest: inout ArraySlice<UInt8>)
    throws(SentencePieceModelFile.Rejection) -> ArraySlice<UInt8>
  {
    guard count <= rest.count else { throw damaged }
    let taken = rest.prefix(count)
    rest = rest.dropFirst(count)
    return taken
  }

  private static func littleEndian(_ bytes: ArraySlice<UInt8>) -> UInt64 {
    bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }
}

/// The table of character replacements: the size of a trie (u32), the trie as a double array of u32 units
/// (Darts-clone), and the replacements as zero-terminated texts.
private enum ReplacementTable {
  /// The library keeps this many matches of one place in the text.
  private static let matchLimit = 32
  private static let replacementLimit = 256

  /// Whether every walk from the root stays inside the trie, is finite, passes at most `matchLimit` matches,
  /// and every match points to a short text.
  static func isSound(_ table: [UInt8]) -> Bool {
    func word(_ at: Int) -> UInt32 {
      UInt32(table[at]) | UInt32(table[at + 1]) << 8 | UInt32(table[at + 2]) << 16 | UInt32(table[at + 3])
        << 24
    }
    guard table.count > 4 else { return false }
    let trieBytes = Int(word(0))
    guard trieBytes > 0, trieBytes % 1024 == 0, trieBytes < table.count - 4 else { return false }
    let units = (0..<trieBytes / 4).map { word(4 + 4 * $0) }
    let texts = table[(4 + trieBytes)...]
    // Units are shared by words with a common ending: the walks form a graph, which must have no loop. -1 stands
    // for a unit not seen, -2 for one on the current walk, else the most matches from there on.
    var matches = [Int](repeating: -1, count: units.count)
    var walk: [(unit: Int, base: Int, label: Int, below: Int)] = []
    func enter(_ position: Int) -> Bool {
      let unit = units[position]
      let base = position ^ Int((unit >> 10) << ((unit & 1 << 9) >> 6))
      // Blocks have 256 units, so `base ^ label` stays inside when `base` does.
      guard base < units.count else { return false }
      if unit & 1 << 8 != 0, !isText(texts, at: Int(units[base] & 0x7fff_ffff)) { return false }
      matches[position] = -2
      walk.append((position, base, 0, 0))
      return true
    }
    guard enter(0) else { return false }
    while let (position, base, done, seen) = walk.popLast() {
      var (label, below) = (done, seen)
      var next: Int?
      while label < 256, next == nil {
        let child = base ^ label
        label += 1
        guard units[child] & 0x8000_00ff == UInt32(label - 1) else { continue }
        if matches[child] == -2 { return false }
        if matches[child] == -1 { next = child } else { below = max(below, matches[child]) }
      }
      if let next {
        // Looked at again once the child is done.
        walk.append((position, base, label - 1, below))
        guard enter(next) else { return false }
      } else {
        let own = units[position] >> 8 & 1
        matches[position] = below + Int(own)
        guard matches[position] <= matchLimit else { return false }
      }
    }
    return true
  }

  private static func isText(_ texts: ArraySlice<UInt8>, at offset: Int) -> Bool {
    guard offset < texts.count else { return false }
    let rest = texts[(texts.startIndex + offset)...].prefix(replacementLimit)
    guard let end = rest.firstIndex(of: 0) else { return false }
    return String(validating: rest[..<end], as: UTF8.self) != nil
  }
}
