import DiffusionLayers

/// Text to token ids by byte-pair encoding, as CLIP's text encoders take it (transformers' `CLIPTokenizer`).
public struct CLIPTokenizer: Sendable {
  /// Ids below this number can occur.
  public let vocabularySize: Int
  public let startOfText: Int
  public let endOfText: Int
  /// What fills the places behind a prompt's end.
  public let padding: Int
  private let encoding: BytePairEncoding
  /// The symbol of each byte inside a word and at its end; `unknown` where the vocabulary has none.
  private let inner: [Int]
  private let last: [Int]
  private let specialTokens: [(text: [Unicode.Scalar], id: Int)]

  /// What tells the end of a word.
  private static let endOfWord = "</w>"

  /// Texts of the tokens that are no part of any word.
  public struct SpecialTokens: Sendable, Equatable {
    public var start = "<|startoftext|>"
    public var end = "<|endoftext|>"
    public var padding = "<|endoftext|>"
    public var unknown = "<|endoftext|>"

    public init() {}

    /// Takes over those that a `tokenizer_config.json` or `special_tokens_map.json` tells.
    mutating func update(from json: JSONObject) {
      func read(_ key: String, _ value: inout String) {
        if let text = json[key]?.string ?? json[key]?.object?["content"]?.string { value = text }
      }
      read("bos_token", &start)
      read("eos_token", &end)
      read("pad_token", &padding)
      read("unk_token", &unknown)
    }
  }

  /// - Parameters:
  ///   - vocabulary: every symbol's id.
  ///   - merges: the rules, the first one first.
  ///   - file: name for messages.
  /// - Throws: `ConfigError` when they do not fit each other.
  public init(
    vocabulary: [String: Int], merges: [(left: String, right: String)],
    special: SpecialTokens = SpecialTokens(), file: String
  ) throws(ConfigError) {
    func refused(_ key: String, _ reason: String) -> ConfigError {
      ConfigError(
        file: file, key: key, reason: reason + "; take all files of the model's own tokenizer folder")
    }
    guard let largest = vocabulary.values.max(), vocabulary.values.allSatisfy({ $0 >= 0 }), largest < 1 << 24
    else { throw refused("vocab", "has no ids from 0 to 2²⁴") }
    func id(_ token: String) throws(ConfigError) -> Int {
      guard let id = vocabulary[token] else {
        throw refused(String(token.prefix(64)), "is missing in the vocabulary")
      }
      return id
    }
    vocabularySize = largest + 1
    (startOfText, endOfText) = (try id(special.start), try id(special.end))
    padding = try id(special.padding)
    let unknown = try id(special.unknown)
    inner = PrintableBytes.characters.map { vocabulary[$0] ?? unknown }
    last = PrintableBytes.characters.map { vocabulary[$0 + Self.endOfWord] ?? unknown }
    let texts = Set([special.start, special.end, special.padding, special.unknown]).filter { !$0.isEmpty }
    // The longest first, so that none hides another.
    specialTokens = texts.sorted { ($1.unicodeScalars.count, $0) < ($0.unicodeScalars.count, $1) }
      .compactMap { text in vocabulary[text].map { (Array(text.unicodeScalars), $0) } }
    do {
      encoding = try BytePairEncoding(merges, vocabulary: vocabulary)
    } catch {
      throw refused(
        "merges",
        "need the symbol '\(error.symbol.prefix(64))' (rule \(error.rank + 1)), which the vocabulary lacks")
    }
  }

  /// The ids of a text between start and end, cut and filled to `length` of them.
  /// - Parameter length: at least 2; CLIP's encoders take 77.
  public func encode(_ text: String, length: Int = 77) -> [Int] {
    precondition(length >= 2, "room for no start and end")
    var ids = [startOfText]
    for part in split(Array(text.unicodeScalars)) where ids.count < length - 1 {
      switch part {
      case .special(let id): ids.append(id)
      case .text(let scalars):
        CLIPTokenPattern.forEachWord(CLIPTokenPattern.normalized(scalars)) { word in
          ids += tokens(of: word)
          return ids.count < length - 1
        }
      }
    }
    ids = ids.prefix(length - 1) + [endOfText]
    return ids + [Int](repeating: padding, count: length - ids.count)
  }

  private func tokens(of word: ArraySlice<Unicode.Scalar>) -> [Int] {
    var text = String.UnicodeScalarView()
    text.append(contentsOf: word)
    let bytes = Array(String(text).utf8)
    return encoding.merged(
      bytes.enumerated().lazy.map {
        $0.offset + 1 == bytes.count ? last[Int($0.element)] : inner[Int($0.element)]
      })
  }

  private enum Part {
    case text([Unicode.Scalar])
    case special(Int)
  }

  /// The text with its special tokens taken out.
  private func split(_ text: [Unicode.Scalar]) -> [Part] {
    var parts: [Part] = []
    var (start, position) = (0, 0)
    while position < text.count {
      guard let token = specialTokens.first(where: { text[position...].starts(with: $0.text) }) else {
        position += 1
        continue
      }
      if position > start { parts.append(.text(Array(text[start..<position]))) }
      parts.append(.special(token.id))
      position += token.text.count
      start = position
    }
    if start < text.count { parts.append(.text(Array(text[start...]))) }
    return parts
  }
}
