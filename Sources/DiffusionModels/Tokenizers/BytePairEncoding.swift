import DiffusionLayers

/// Merges of neighbouring symbols, the oldest rule first (Sennrich et al. 2016).
struct BytePairEncoding: Sendable {
  /// By the ids of two symbols: which rule joins them, and to which symbol.
  private let rules: [UInt64: Rule]

  private struct Rule: Sendable {
    let rank: Int
    let result: Int
  }

  /// The most rules; CLIP has 48,894.
  static let ruleLimit = 1 << 20
  /// The most symbols of one word that are looked at. CLIP keeps 75 tokens of a prompt.
  static let symbolLimit = 4096

  /// - Parameters:
  ///   - pairs: the two symbols of each rule, the first rule first.
  ///   - vocabulary: ids of all symbols, below 2³².
  /// - Throws: `MissingSymbol` for a rule with a symbol, or a result, that the vocabulary lacks.
  init(_ pairs: [(left: String, right: String)], vocabulary: [String: Int]) throws(MissingSymbol) {
    var rules: [UInt64: Rule] = [:]
    rules.reserveCapacity(pairs.count)
    for (rank, pair) in pairs.enumerated() {
      func id(_ symbol: String) throws(MissingSymbol) -> Int {
        guard let id = vocabulary[symbol] else { throw MissingSymbol(rank: rank, symbol: symbol) }
        return id
      }
      let key = Self.key(try id(pair.left), try id(pair.right))
      rules[key] = Rule(rank: rank, result: try id(pair.left + pair.right))
    }
    self.rules = rules
  }

  struct MissingSymbol: Error {
    let rank: Int
    let symbol: String
  }

  private static func key(_ left: Int, _ right: Int) -> UInt64 { UInt64(left) << 32 | UInt64(right) }

  /// The symbols of one word with all rules applied. Of a word beyond `symbolLimit` the rest is left out.
  func merged(_ word: some Sequence<Int>) -> [Int] {
    var symbols = Array(word.prefix(Self.symbolLimit))
    while symbols.count > 1 {
      var best: (key: UInt64, rule: Rule)?
      for index in 1..<symbols.count {
        let key = Self.key(symbols[index - 1], symbols[index])
        if let rule = rules[key], rule.rank < best?.rule.rank ?? .max { best = (key, rule) }
      }
      guard let best else { break }
      var joined: [Int] = []
      joined.reserveCapacity(symbols.count)
      var index = 0
      while index < symbols.count {
        if index + 1 < symbols.count, Self.key(symbols[index], symbols[index + 1]) == best.key {
          joined.append(best.rule.result)
          index += 2
        } else {
          joined.append(symbols[index])
          index += 1
        }
      }
      symbols = joined
    }
    return symbols
  }
}

/// The printable characters that stand for bytes in the vocabularies of GPT-2 and CLIP.
enum PrintableBytes {
  /// The bytes in the order of CLIP's vocabulary: printable ones first, then all others.
  static let order: [UInt8] =
    (0...255).filter(isPrintable) + (0...255).filter { !isPrintable($0) }

  /// The character of each byte: printable ones stand for themselves, the others for what follows U+00FF.
  static let characters: [String] = {
    var next: UInt32 = 0x100
    return (0...255).map { (byte: UInt8) in
      guard !isPrintable(byte) else { return String(Unicode.Scalar(byte)) }
      defer { next += 1 }
      return Unicode.Scalar(next).map { String($0) } ?? ""
    }
  }()

  private static func isPrintable(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x21...0x7e, 0xa1...0xac, 0xae...0xff: true
    default: false
    }
  }
}
