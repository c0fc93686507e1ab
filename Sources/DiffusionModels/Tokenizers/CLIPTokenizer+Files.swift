public import DiffusionLayers

extension CLIPTokenizer {
  /// The tokenizer folder of a model: `vocab.json` and `merges.txt`, or `tokenizer.json` alone, and the special
  /// tokens of `tokenizer_config.json` or `special_tokens_map.json`.
  /// - Throws: `ConfigError` or `WeightsError` naming the file and what is wrong with it.
  public init(_ directory: ModelDirectory, component: String = "tokenizer") throws {
    let path = { (name: String) in "\(component)/\(name)" }
    var special = SpecialTokens()
    for name in ["special_tokens_map.json", "tokenizer_config.json"] where directory.exists(path(name)) {
      special.update(from: try directory.json(path(name)))
    }
    let file = directory.location(of: component)
    if directory.exists(path("vocab.json")), directory.exists(path("merges.txt")) {
      try self.init(
        vocabulary: try Self.vocabulary(try directory.json(path("vocab.json")), file: file),
        merges: try Self.merges(
          try directory.read(path("merges.txt")), file: directory.location(of: path("merges.txt"))),
        special: special, file: file)
      return
    }
    guard directory.exists(path("tokenizer.json")) else {
      throw ConfigError(
        file: file, key: "vocab.json",
        reason:
          "or merges.txt is missing; download the model again, or copy both files of its tokenizer there")
    }
    try self.init(
      try directory.json(path("tokenizer.json")), special: special,
      file: directory.location(of: path("tokenizer.json")))
  }

  /// The tokenizer of CLIP-L, which every Stable Diffusion 1.x has, for checkpoints that come without one.
  public static func clipL() throws -> CLIPTokenizer {
    let file = "builtin:tokenizers/clip/merges.txt"
    let merges = try merges(try BuiltinFiles.clipMerges(), file: file)
    let special = SpecialTokens()
    let bytes = PrintableBytes.order.map { PrintableBytes.characters[Int($0)] }
    let symbols =
      bytes + bytes.map { $0 + "</w>" } + merges.map { $0.left + $0.right } + [special.start, special.end]
    return try CLIPTokenizer(
      vocabulary: Dictionary(zip(symbols, 0...), uniquingKeysWith: { first, _ in first }), merges: merges,
      special: special, file: file)
  }

  /// A `tokenizer.json` of the tokenizers library.
  private init(_ json: JSONObject, special: SpecialTokens, file: String) throws(ConfigError) {
    let model = json["model"]?.object
    guard model?["type"]?.string ?? "BPE" == "BPE", let vocabulary = model?["vocab"]?.object,
      let rules = model?["merges"]?.array
    else {
      throw ConfigError(
        file: file, key: "model", reason: "is no byte-pair encoding; copy vocab.json and merges.txt beside it"
      )
    }
    var merges: [(String, String)] = []
    for (index, rule) in rules.enumerated() {
      let parts = rule.array?.compactMap(\.string) ?? rule.string.map(Self.symbols) ?? []
      guard parts.count == 2, merges.count < BytePairEncoding.ruleLimit else {
        throw ConfigError(file: file, key: "merges", reason: "has no two symbols at rule \(index + 1)")
      }
      merges.append((parts[0], parts[1]))
    }
    try self.init(
      vocabulary: try Self.vocabulary(vocabulary, file: file), merges: merges, special: special, file: file)
  }

  private static func vocabulary(_ json: JSONObject, file: String) throws(ConfigError) -> [String: Int] {
    var ids: [String: Int] = [:]
    ids.reserveCapacity(json.count)
    for key in json.keys {
      guard let id = json[key]?.int else {
        throw ConfigError(
          file: file, key: String(key.prefix(64)), reason: "must be the id of a token in the vocabulary")
      }
      ids[key] = id
    }
    return ids
  }

  /// A `merges.txt`: a line with two symbols for each rule.
  private static func merges(_ bytes: [UInt8], file: String) throws(ConfigError) -> [(
    left: String, right: String
  )] {
    var merges: [(String, String)] = []
    for (index, line) in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
      .enumerated()
    {
      let text = String(decoding: line.last == UInt8(ascii: "\r") ? line.dropLast() : line, as: UTF8.self)
      if text.isEmpty || text.hasPrefix("#version") { continue }
      let parts = symbols(text)
      guard parts.count == 2, merges.count < BytePairEncoding.ruleLimit else {
        throw ConfigError(
          file: file, key: "line \(index + 1)",
          reason: "must hold two symbols; take merges.txt of the model's own tokenizer folder")
      }
      merges.append((parts[0], parts[1]))
    }
    return merges
  }

  private static func symbols(_ rule: String) -> [String] {
    rule.split(separator: " ", omittingEmptySubsequences: false).map(String.init)
  }
}
