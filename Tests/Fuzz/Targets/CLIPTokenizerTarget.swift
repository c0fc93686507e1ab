import DiffusionLayers
import DiffusionModels

extension FuzzTarget {
  /// `vocab.json`, a byte 0, and `merges.txt` of a byte-pair tokenizer: what is accepted must tokenize texts.
  static let clipTokenizer = FuzzTarget(
    "clip-tokenizer",
    words: jsonWords
      + texts(
        "<|startoftext|>", "<|endoftext|>", "</w>", "a</w>", "a b\n", "#version: 0.2\n", "\"a\": 1,", "\n",
        "Ġ")
  ) { bytes in
    let end = bytes.firstIndex(of: 0) ?? bytes.count
    Scratch.write(Array(bytes[..<end]), to: "clip/tokenizer/vocab.json")
    Scratch.write(Array(bytes[min(end + 1, bytes.count)...]), to: "clip/tokenizer/merges.txt")
    let tokenizer = try CLIPTokenizer(try ModelDirectory(Scratch.folder + "/clip"))
    for text in [
      "", "a red fox, the  lazy\tdog <|endoftext|> it's 42", "Åé漢字 ﬁ ½ \u{301}\u{0}🦊", "<",
      "aaaaaaaaaaaaaaaaaaaaaaaa",
    ] {
      let ids = tokenizer.encode(text)
      try require(ids.count == 77 && ids.first == tokenizer.startOfText, "a text without a start")
      try require(ids.contains(tokenizer.endOfText), "a text without an end")
      try require(
        ids.allSatisfy { (0..<tokenizer.vocabularySize).contains($0) }, "an id outside of the vocabulary")
    }
  }
}
