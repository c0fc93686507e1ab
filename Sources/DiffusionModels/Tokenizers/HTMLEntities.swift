/// Character references of HTML, decoded as Python's `html.unescape` decodes them.
enum HTMLEntities {
  /// Scalars of every name, which stands here without its semicolon.
  static let scalars: [String: [Unicode.Scalar]] = namesAndScalars.split(whereSeparator: \.isWhitespace)
    .reduce(into: [:]) { table, entry in
      guard let equals = entry.firstIndex(of: "=") else { return }
      table[String(entry[..<equals])] = entry[entry.index(after: equals)...].split(separator: "+").compactMap
      {
        UInt32($0, radix: 16).flatMap(Unicode.Scalar.init)
      }
    }
  /// Names that are known without their semicolon as well.
  static let legacy = Set(namesWithoutSemicolon.split(whereSeparator: \.isWhitespace).map(String.init))

  /// Every reference decoded, also those that lack their semicolon where HTML allows it.
  static func unescape(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
    replaceReferences(text) { reference in
      let length = reference.prefix(33).dropFirst().prefix { !stops.contains($0) }.count
      if reference.dropFirst().first == "#" { return number(reference) }
      guard length > 0 else { return nil }
      let name = reference.dropFirst().prefix(length)
      if reference.dropFirst(1 + length).first == ";", let found = scalars[String(name)] {
        return (found, 2 + length)
      }
      // The longest known beginning, which needs no semicolon: `&notit;` is `¬it;`.
      for count in stride(from: length, through: 2, by: -1) {
        let beginning = String(name.prefix(count))
        if legacy.contains(beginning), let found = scalars[beginning] { return (found, 1 + count) }
      }
      return nil
    }
  }

  private static let stops: Set<Unicode.Scalar> = ["\t", "\n", "\u{c}", " ", "<", "&", "#", ";"]

  /// Calls `decode` with the rest of the text from every `&` on; it answers with a replacement and the number
  /// of scalars that it replaces.
  static func replaceReferences(
    _ text: [Unicode.Scalar], decode: (ArraySlice<Unicode.Scalar>) -> ([Unicode.Scalar], Int)?
  ) -> [Unicode.Scalar] {
    guard text.contains("&") else { return text }
    var result: [Unicode.Scalar] = []
    var position = 0
    while position < text.count {
      if text[position] == "&", let (replacement, length) = decode(text[position...]) {
        result += replacement
        position += length
      } else {
        result.append(text[position])
        position += 1
      }
    }
    return result
  }

  /// `&#38;` and `&#x26;`, the semicolon being optional.
  static func number(_ reference: ArraySlice<Unicode.Scalar>) -> ([Unicode.Scalar], Int)? {
    var digits = reference.dropFirst(2)
    var length = 2
    var radix: UInt32 = 10
    if let mark = digits.first, mark == "x" || mark == "X" {
      digits = digits.dropFirst()
      length += 1
      radix = 16
    }
    var value: UInt32 = 0
    var count = 0
    for scalar in digits {
      guard scalar.isASCII, let digit = Character(scalar).hexDigitValue, digit < radix else { break }
      value = min(value * radix + UInt32(digit), 0x110000)
      count += 1
    }
    guard count > 0 else { return nil }
    length += count
    if digits.dropFirst(count).first == ";" { length += 1 }
    return (scalars(of: value), length)
  }

  /// What a number stands for: the C1 range means Windows-1252, other control characters and noncharacters
  /// nothing.
  private static func scalars(of value: UInt32) -> [Unicode.Scalar] {
    switch value {
    case 0x0d: return ["\r"]
    case 0x80...0x9f: return [windows1252(value)]
    case 0x01...0x08, 0x0b, 0x0e...0x1f, 0x7f, 0xfdd0...0xfdef: return []
    default:
      if value > 0, let scalar = Unicode.Scalar(value) {
        return value & 0xfffe == 0xfffe ? [] : [scalar]
      }
      return ["\u{fffd}"]
    }
  }

  /// The character that Windows-1252 has at a byte from 0x80 to 0x9f, the control character where it has none.
  static func windows1252(_ byte: UInt32) -> Unicode.Scalar {
    let high: [UInt32] = [
      0x20ac, 0x81, 0x201a, 0x192, 0x201e, 0x2026, 0x2020, 0x2021, 0x2c6, 0x2030, 0x160, 0x2039, 0x152, 0x8d,
      0x17d, 0x8f, 0x90, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x2dc, 0x2122, 0x161, 0x203a,
      0x153, 0x9d, 0x17e, 0x178,
    ]
    return Unicode.Scalar(high[Int(byte - 0x80)]) ?? "\u{fffd}"
  }
}

extension String {
  init(_ scalars: some Sequence<Unicode.Scalar>) {
    var view = String.UnicodeScalarView()
    view.append(contentsOf: scalars)
    self.init(view)
  }
}
