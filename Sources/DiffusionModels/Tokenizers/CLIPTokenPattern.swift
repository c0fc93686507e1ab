// Reference: transformers, models/clip/tokenization_clip.py (the normaliser and the pattern); OpenAI's CLIP,
// simple_tokenizer.py.

/// How CLIP's tokenizer cuts a text into words.
enum CLIPTokenPattern {
  /// The scalars of a text in normal form C, every run of white space as one space, in small letters.
  static func normalized(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
    var result: [Unicode.Scalar] = []
    var isSpace = false
    for scalar in canonicallyComposed(text) {
      if scalar.properties.isWhitespace {
        if !isSpace { result.append(" ") }
        isSpace = true
        continue
      }
      isSpace = false
      if scalar.isASCII {
        let isCapital = (0x41...0x5a).contains(scalar.value)
        result.append(isCapital ? Unicode.Scalar(UInt8(scalar.value) + 0x20) : scalar)
      } else {
        result.append(contentsOf: scalar.properties.lowercaseMapping.unicodeScalars)
      }
    }
    return result
  }

  /// Calls `body` with each word of a normalised text, from first to last, until it returns false: an English
  /// contraction's end, letters, a single digit, or other signs.
  static func forEachWord(_ text: [Unicode.Scalar], _ body: (ArraySlice<Unicode.Scalar>) -> Bool) {
    var rest = text[...]
    while let first = rest.first {
      if let token = tokens.first(where: { rest.starts(with: $0.joined()) }) {
        for part in token {
          guard body(rest.prefix(part.count)) else { return }
          rest = rest.dropFirst(part.count)
        }
        continue
      }
      let kind = Kind(first)
      var length = contraction(rest) ?? 1
      if length == 1, kind != .number, kind != .space {
        length = rest.prefix { Kind($0) == kind }.count
      }
      if kind != .space, !body(rest.prefix(length)) { return }
      rest = rest.dropFirst(length)
    }
  }

  private enum Kind {
    case letter, number, space, other

    init(_ scalar: Unicode.Scalar) {
      switch scalar.properties.generalCategory {
      case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: self = .letter
      case .decimalNumber, .letterNumber, .otherNumber: self = .number
      default: self = scalar.properties.isWhitespace ? .space : .other
      }
    }
  }

  private static let contractions = scalars(["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"])

  /// The length of a contraction's end at the start of a text.
  private static func contraction(_ text: ArraySlice<Unicode.Scalar>) -> Int? {
    guard text.first == "'" else { return nil }
    return contractions.first { text.starts(with: $0) }?.count
  }

  /// Special tokens that were not written as such, in capitals perhaps: three words apart from other signs around them.
  private static let tokens = [["<|", "startoftext", "|>"], ["<|", "endoftext", "|>"]].map(scalars)

  private static func scalars(_ texts: [String]) -> [[Unicode.Scalar]] {
    texts.map { Array($0.unicodeScalars) }
  }
}
