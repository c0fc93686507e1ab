// Reference: diffusers, pipelines/wan/pipeline_wan.py (`prompt_clean`); ftfy 6.3 (`fix_text`), Robyn Speer.

/// What the Wan pipeline makes of a prompt before its tokenizer sees it.
///
/// That is ftfy's `fix_text` (HTML references unless the text has a `<`, Latin ligatures, full and half width,
/// curly quotes, line breaks, terminal escapes, control characters, NFC), `html.unescape` twice, and one space
/// for every run of white space. Left out of ftfy: the repair of mojibake, that is of text that was decoded
/// with the wrong encoding ("cafÃ©").
public func cleanedPrompt(_ prompt: String) -> String {
  var text = fixedText(Array(prompt.unicodeScalars))
  text = HTMLEntities.unescape(HTMLEntities.unescape(text))
  return String(text.split(whereSeparator: isWhitespace).joined(separator: [" "]))
}

/// Line by line, as ftfy does it; after the first line with a `<` the text counts as HTML that stays as it is.
private func fixedText(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
  var result: [Unicode.Scalar] = []
  var unescapes = true
  var rest = text[...]
  while !rest.isEmpty {
    let line = rest.prefix(through: rest.firstIndex(of: "\n") ?? rest.endIndex - 1)
    rest = rest[line.endIndex...]
    if line.contains("<") { unescapes = false }
    result += fixedLine(Array(line), unescapes: unescapes)
  }
  return result
}

/// All fixes in turn until nothing changes any more; the bound is for texts escaped dozens of times.
private func fixedLine(_ line: [Unicode.Scalar], unescapes: Bool) -> [Unicode.Scalar] {
  var text = line
  for _ in 0..<64 {
    let before = text
    if unescapes { text = withUnambiguousReferences(text) }
    text = text.flatMap(withoutLigatureOrWidth)
    text = withoutTerminalEscapes(withUnixLineBreaks(text)).filter { !isControl($0) }
    text = canonicallyComposed(text)
    if text == before { break }
  }
  return text
}

/// Decodes what can only be a reference: with a semicolon, and names in capitals that mean nothing else.
private func withUnambiguousReferences(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
  HTMLEntities.replaceReferences(text) { reference in
    let isNumber = reference.dropFirst().first == "#"
    let body = reference.dropFirst(isNumber ? 2 : 1)
    let name = body.prefix(25).prefix {
      $0.isASCII && ($0.properties.isAlphabetic || $0.properties.numericType != nil)
    }
    guard (1...24).contains(name.count), body.dropFirst(name.count).first == ";" else { return nil }
    let length = (isNumber ? 3 : 2) + name.count
    if isNumber {
      guard let (scalars, consumed) = HTMLEntities.number(reference), consumed == length,
        !scalars.contains(";")
      else { return nil }
      return (scalars, length)
    }
    return HTMLEntities.unambiguous(String(name)).map { ($0, length) }
  }
}

extension HTMLEntities {
  /// The scalars of a name, or of a name of small letters written in capitals when that is no name itself.
  fileprivate static func unambiguous(_ name: String) -> [Unicode.Scalar]? {
    if let found = scalars[name] { return found }
    let small = name.lowercased()
    guard small != name, small.uppercased() == name, let found = scalars[small] else { return nil }
    let isReadOtherwise = (2...max(2, name.count)).contains { legacy.contains(String(name.prefix($0))) }
    return isReadOtherwise ? nil : found.flatMap { Array($0.properties.uppercaseMapping.unicodeScalars) }
  }
}

/// One scalar as ftfy writes it: C1 controls as Windows-1252, ligatures in letters, usual width, straight
/// quotes.
private func withoutLigatureOrWidth(_ scalar: Unicode.Scalar) -> [Unicode.Scalar] {
  switch scalar.value {
  case 0..<0x80: [scalar]
  case 0x80...0x9f: quoteStraightened(HTMLEntities.windows1252(scalar.value))
  case 0x132...0x1f3, 0xfb00...0xfb06: ligatures[scalar].map { Array($0.unicodeScalars) } ?? [scalar]
  case 0x3000: [" "]
  case 0xff01...0xff5e: [Unicode.Scalar(scalar.value - 0xfee0) ?? scalar]
  case 0xff5f...0xffee: otherWidths[scalar].map { Array($0.unicodeScalars) } ?? [scalar]
  default: quoteStraightened(scalar)
  }
}

private func quoteStraightened(_ scalar: Unicode.Scalar) -> [Unicode.Scalar] {
  switch scalar.value {
  case 0x2bc, 0x2018...0x201b: ["'"]
  case 0x201c...0x201f: ["\""]
  default: [scalar]
  }
}

private let ligatures: [Unicode.Scalar: String] = [
  "Ĳ": "IJ", "ĳ": "ij", "ŉ": "'n", "Ǳ": "DZ", "ǲ": "Dz", "ǳ": "dz", "Ǆ": "DŽ", "ǅ": "Dž", "ǆ": "dž",
  "Ǉ": "LJ", "ǈ": "Lj", "ǉ": "lj", "Ǌ": "NJ", "ǋ": "Nj", "ǌ": "nj", "ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl",
  "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "ſt", "ﬆ": "st",
]

/// Half-width katakana, Hangul and signs from U+FF5F on, with the usual form of each.
private let otherWidths: [Unicode.Scalar: String] = {
  let runs: [(first: UInt32, usual: String)] = [
    (0xff5f, "⦅⦆。「」、・ヲァィゥェォャュョッーアイウエオカキクケコサシスセ"),
    (0xff7f, "ソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワン\u{3099}"),
    (0xff9f, "\u{309a}\u{1160}ᄀᄁᆪᄂᆬᆭᄃᄄᄅᆰᆱᆲᆳᆴᆵᄚᄆᄇᄈᄡᄉᄊᄋᄌᄍᄎᄏᄐᄑᄒ"),
    (0xffc2, "ᅡᅢᅣᅤᅥᅦ"),
    (0xffca, "ᅧᅨᅩᅪᅫᅬ"),
    (0xffd2, "ᅭᅮᅯᅰᅱᅲ"),
    (0xffda, "ᅳᅴᅵ"),
    (0xffe0, "¢£¬"),
    (0xffe4, "¦¥₩"),
    (0xffe8, "│←↑→↓■○"),
  ]
  var table: [Unicode.Scalar: String] = ["\u{ffe3}": " \u{304}"]
  for (first, usual) in runs {
    for (index, scalar) in usual.unicodeScalars.enumerated() {
      if let narrow = Unicode.Scalar(first + UInt32(index)) { table[narrow] = String(scalar) }
    }
  }
  return table
}()

private func withUnixLineBreaks(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
  var result: [Unicode.Scalar] = []
  var previous: Unicode.Scalar?
  for scalar in text {
    defer { previous = scalar }
    switch scalar.value {
    case 0x0a where previous == "\r": break
    case 0x0d, 0x2028, 0x2029, 0x85: result.append("\n")
    default: result.append(scalar)
    }
  }
  return result
}

/// Without ANSI sequences such as `ESC [ 36 ; 44 m`.
private func withoutTerminalEscapes(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
  guard text.contains("\u{1b}") else { return text }
  var result: [Unicode.Scalar] = []
  var rest = text[...]
  while let scalar = rest.popFirst() {
    if scalar == "\u{1b}", rest.first == "[" {
      let after = rest.dropFirst().drop { ("0"..."9").contains($0) || $0 == ";" }
      if let last = after.first, ("a"..."z").contains(last) || ("A"..."Z").contains(last) {
        rest = after.dropFirst()
        continue
      }
    }
    result.append(scalar)
  }
  return result
}

/// Control characters that have no place in text; white space and joiners stay.
private func isControl(_ scalar: Unicode.Scalar) -> Bool {
  switch scalar.value {
  case 0x00...0x08, 0x0b, 0x0e...0x1f, 0x7f, 0x206a...0x206f, 0xfeff, 0xfff9...0xfffc: true
  default: false
  }
}

/// White space as Python's `str.isspace` has it.
private func isWhitespace(_ scalar: Unicode.Scalar) -> Bool {
  switch scalar.value {
  case 0x09...0x0d, 0x1c...0x20, 0x85, 0xa0, 0x1680, 0x2000...0x200a, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000:
    true
  default: false
  }
}
