import DiffusionLayers
import DiffusionModels
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// The SentencePiece tokenizer against the library's own Python binding and transformers.
@Suite struct TokenizerTests {
  private let directory: ModelDirectory
  private let bytes: [UInt8]

  init() throws {
    directory = try ModelDirectory(Fixture.path("wan_tiny"))
    bytes = try directory.read("tokenizer/spiece.model")
  }

  @Test func idsAgreeWithTheReference() throws {
    let golden = try Fixture.safetensors("text_golden")
    let source = try ByteSource.open(Fixture.path("text_golden.json"))
    let cases = try JSONValue.parse(try source.bytes(0..<source.count)).object ?? JSONObject()
    let tokenizer = try SentencePieceTokenizer(directory)
    for index in 0..<6 {
      let prompt = try #require(cases["text.\(index)"]?.object?["prompt"]?.string)
      #expect(try tokenizer.encode(prompt) == golden.integers("text.\(index).in.ids_spm"), "\(prompt)")
      // transformers' ids are cut and padded; they have no byte pieces.
      let padded = try golden.integers("text.\(index).in.ids")
      let real = try golden.integers("text.\(index).in.mask").reduce(0, +)
      if !padded.contains(2) {
        #expect(try tokenizer.encode(prompt, maxLength: padded.count) == Array(padded.prefix(real)))
      }
    }
    #expect(try tokenizer.encode("a red fox", maxLength: 1) == [tokenizer.endOfSequence])
  }

  @Test func severalThreadsShareOne() async throws {
    let tokenizer = try SentencePieceTokenizer(directory)
    let expected = try tokenizer.encode("two cats over glass 漢字")
    try await withThrowingTaskGroup(of: [Int].self) { group in
      for _ in 0..<32 { group.addTask { try tokenizer.encode("two cats over glass 漢字") } }
      for try await ids in group { #expect(ids == expected) }
    }
  }

  @Test func tokenizerJSONAloneIsExplained() throws {
    let folder = "/tmp/videolora-tokenizer-\(getpid())"
    try #require(mkdir(folder, 0o755) == 0 && mkdir(folder + "/tokenizer", 0o755) == 0)
    let file = folder + "/tokenizer/tokenizer.json"
    defer {
      unlink(file)
      rmdir(folder + "/tokenizer")
      rmdir(folder)
    }
    close(open(file, O_CREAT | O_WRONLY, 0o644))
    let error = #expect(throws: ConfigError.self) { try SentencePieceTokenizer(ModelDirectory(folder)) }
    #expect(error?.description.contains("spiece.model") == true)
    #expect(error?.description.contains("tokenizer.json alone") == true)
  }

  @Test func otherFilesAreRefused() {
    let random = (0..<5000).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 7) }
    for bad in [[], [0], random, Array("{\"version\": 1}".utf8), [UInt8](repeating: 0xff, count: 99)] {
      #expect(throws: ConfigError.self) { try SentencePieceTokenizer(bad, sentinels: 0, file: "x") }
    }
    for length in stride(from: 0, to: bytes.count, by: 4999) {
      #expect(throws: ConfigError.self) {
        try SentencePieceTokenizer(Array(bytes.prefix(length)), sentinels: 0, file: "x")
      }
    }
  }

  /// Two-byte fields up to the limit: walked one at a time, in no more memory than the file has.
  @Test func manySmallFieldsTakeNoMemory() {
    let field: [UInt8] = [0x38, 0x01]  // number 7, which no message has
    let size = SentencePieceTokenizer.sizeLimit
    let crafted = [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
      for index in 0..<size { buffer[index] = field[index % 2] }
      count = size
    }
    let before = peakRSS()
    #expect(throws: ConfigError.self) { try SentencePieceTokenizer(crafted, sentinels: 0, file: "x") }
    #expect(peakRSS() - before < 64 << 20)
    #expect(throws: ConfigError.self) {
      try SentencePieceTokenizer(crafted + [0x38, 0x01], sentinels: 0, file: "x")
    }
  }

  private func peakRSS() -> Int {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return usage.ru_maxrss * 1024
  }

  /// One varint field, and one field of bytes, of a protocol buffer.
  private func number(_ field: UInt8, _ value: UInt8) -> [UInt8] { [field << 3, value] }
  private func message(_ field: UInt8, _ content: [UInt8]) -> [UInt8] {
    var length = content.count
    var head = [field << 3 | 2]
    while length >= 0x80 {
      head.append(UInt8(length & 0x7f) | 0x80)
      length >>= 7
    }
    return head + [UInt8(length)] + content
  }

  /// A model of three pieces with a table of character replacements made of `units` and `texts`.
  private func model(units: [Int: UInt32], count: Int = 256, texts: String, kind: UInt8 = 1) -> [UInt8] {
    let pieces: [(String, UInt8)] = [("<unk>", 2), ("</s>", 3), ("a", 1)]
    // Unused units match no letter.
    var trie = [UInt32](repeating: 1 << 31, count: count)
    for (index, unit) in units { trie[index] = unit }
    let words = ([UInt32(4 * count)] + trie).flatMap { word in
      (0..<4).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) }
    }
    return pieces.flatMap { message(1, message(1, Array($0.utf8)) + number(3, $1)) }
      + message(2, number(3, kind) + [0xc0, 0x02, 0, 0xc8, 0x02, 0x7f, 0xd0, 0x02, 1])
      + message(3, message(2, words + Array(texts.utf8)))
  }

  @Test func replacementTablesThatLeaveTheirBoundsAreRefused() throws {
    let (b, leaf, value) = (UInt32(UInt8(ascii: "b")), UInt32(1 << 8), UInt32(1) << 31)
    // "b" becomes "a": children of the root are found from unit 1 on, the place of the text is in unit 7.
    func offset(from unit: Int, to base: Int) -> UInt32 { UInt32(unit ^ base) << 10 }
    let sound: [Int: UInt32] = [
      0: offset(from: 0, to: 1), Int(b) ^ 1: b | leaf | offset(from: Int(b) ^ 1, to: 7), 7: value,
    ]
    let tokenizer = try SentencePieceTokenizer(model(units: sound, texts: "a\0"), sentinels: 0, file: "x")
    #expect(try tokenizer.encode("b") == tokenizer.encode("a"))
    var broken: [(String, [UInt8])] = [("kind", model(units: sound, texts: "a\0", kind: 2))]
    broken.append(("open text", model(units: sound, texts: "a")))
    var units = sound
    units[7] = value | 99
    broken.append(("value", model(units: units, texts: "a\0")))
    units = sound
    units[0] = (1 << 9) << 10
    broken.append(("offset", model(units: units, texts: "a\0")))
    units = sound
    units[Int(b) ^ 1] = b | leaf | offset(from: Int(b) ^ 1, to: 1)
    units[1] = value
    broken.append(("loop", model(units: units, texts: "a\0")))
    broken.append(("block", model(units: sound, count: 255, texts: "a\0")))
    for (what, bytes) in broken {
      #expect(throws: ConfigError.self, "\(what)") {
        try SentencePieceTokenizer(bytes, sentinels: 0, file: "x")
      }
    }
  }

  @Test func changedFilesNeverCrash() throws {
    var state: UInt64 = 20_260
    func random(_ bound: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % bound
    }
    // The pieces stand in front, behind them the settings and the large table.
    let edges = [0, 64, 6000, 10000, 12000, bytes.count]
    var loaded = 0
    for round in 0..<150 {
      var changed = bytes
      for _ in 0...random(4) {
        let span = 1 + random(edges.count - 1)
        let at = edges[span - 1] + random(edges[span] - edges[span - 1])
        switch random(4) {
        case 0: changed[min(at, changed.count - 1)] ^= 1 << UInt8(random(8))
        case 1: changed[min(at, changed.count - 1)] = UInt8(random(256))
        case 2: changed.removeSubrange(min(at, changed.count - 2)..<min(at + 1 + random(3), changed.count))
        default: changed.insert(UInt8(random(256)), at: min(at, changed.count))
        }
      }
      do {
        let tokenizer = try SentencePieceTokenizer(changed, sentinels: 300, file: "x")
        loaded += 1
        for text in ["a red fox, ½ ﬁne 漢字 🙂 \u{fdfa} é e\u{301}", "", "\u{1}\u{0}\u{ffff}"] {
          let ids = try tokenizer.encode(text)
          #expect(ids.allSatisfy { (0..<tokenizer.vocabularySize).contains($0) }, "round \(round)")
        }
      } catch {
        continue
      }
    }
    #expect(loaded > 10)
  }
}
