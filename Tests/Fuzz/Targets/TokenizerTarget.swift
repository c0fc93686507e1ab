import DiffusionModels

extension FuzzTarget {
  /// A `spiece.model`: what is accepted must tokenize texts.
  static let tokenizer = FuzzTarget(
    "tokenizer",
    words: texts("<unk>", "<s>", "</s>", "<pad>", "<0x41>", "▁", "▁the", "a", "nmt_nfkc", "identity")
      + [
        [0x0a], [0x12], [0x1a], [0x15, 0, 0, 0x80, 0x3f], [0x15, 0, 0, 0xc0, 0x7f], [0x18, 1], [0x18, 2],
        [0x18, 3],
        [0x18, 4], [0x18, 5], [0x18, 6], [0xff, 0xff, 0xff, 0xff, 0x0f], [0x80, 0x80, 0x80, 0x80, 0x10],
      ]
  ) { bytes in
    let tokenizer = try SentencePieceTokenizer(bytes, sentinels: 4, file: "spiece.model")
    for text in [
      "", "a red fox, the  lazy\tdog </s> <extra_id_2>", "Åé漢字 ﬁ ½ \u{301}\u{0}🦊", "<",
      "aaaaaaaaaaaaaaaaaaaaaaaa",
    ] {
      let ids = try tokenizer.encode(text)
      try require(ids.last == tokenizer.endOfSequence, "a text without an end")
      try require(
        ids.allSatisfy { (0..<tokenizer.vocabularySize).contains($0) }, "an id outside of the vocabulary")
      try require(try tokenizer.encode(text, maxLength: 3).count <= 3, "a text that is not cut")
    }
  }
}
