import DiffusionLayers
import DiffusionModels
import TensorCore
import TestSupport
import Testing

/// CLIP's tokenizer and text encoder against transformers.
@Suite struct CLIPTests {
  private let directory: ModelDirectory
  private let golden: SafetensorsFile
  private let cases: JSONObject

  init() throws {
    directory = try ModelDirectory(Fixture.path("animatediff"))
    golden = try Fixture.safetensors("animatediff_golden")
    cases = try Self.json("animatediff_golden.json").object ?? JSONObject()
  }

  private static func json(_ name: String) throws -> JSONValue {
    let source = try ByteSource.open(Fixture.path(name))
    return try JSONValue.parse(try source.bytes(0..<source.count), file: name)
  }

  // MARK: - Tokenizer

  @Test func theFoldersTokenizerAgreesWithTheReference() throws {
    let tokenizer = try CLIPTokenizer(directory)
    for index in 0..<4 {
      let prompt = try #require(cases["text.\(index)"]?.object?["prompt"]?.string)
      #expect(try tokenizer.encode(prompt) == golden.integers("text.\(index).in.ids"), "\(prompt)")
    }
    #expect(tokenizer.encode("a red fox", length: 2) == [tokenizer.startOfText, tokenizer.endOfText])
  }

  @Test func theBuiltinTokenizerAgreesWithTheReference() throws {
    let tokenizer = try CLIPTokenizer.clipL()
    #expect(tokenizer.vocabularySize == 49408)
    #expect(tokenizer.startOfText == 49406 && tokenizer.endOfText == 49407 && tokenizer.padding == 49407)
    let pairs = try #require(try Self.json("clip_tokens.json").array)
    #expect(pairs.count >= 20)
    for pair in pairs {
      let text = try #require(pair.array?.first?.string)
      let ids = pair.array?.last?.array?.compactMap(\.int)
      #expect(tokenizer.encode(text) == ids, "\(text.debugDescription)")
    }
  }

  @Test func oneFileOfTheTokenizersLibraryServesToo() throws {
    let vocabulary = try directory.json("tokenizer/vocab.json")
    let merges = String(decoding: try directory.read("tokenizer/merges.txt"), as: UTF8.self)
    let rules = merges.split(separator: "\n").dropFirst().map(String.init)
    for asPairs in [false, true] {
      let list = rules.map { rule in
        asPairs ? JSONValue.array(rule.split(separator: " ").map { .string(String($0)) }) : .string(rule)
      }
      let json: JSONValue = .object([
        "model": .object(["type": .string("BPE"), "vocab": .object(vocabulary), "merges": .array(list)])
      ])
      let folder = TemporaryModel(["tokenizer/tokenizer.json": Array(json.serialized().utf8)])
      let tokenizer = try CLIPTokenizer(try ModelDirectory(folder.path))
      #expect(try tokenizer.encode("Two cats!") == CLIPTokenizer(directory).encode("Two cats!"))
    }
  }

  @Test func damagedFilesAreNamed() throws {
    let vocabulary = try directory.read("tokenizer/vocab.json")
    let merges = try directory.read("tokenizer/merges.txt")
    for (files, expected) in [
      ([:], "vocab.json"),
      (["vocab.json": vocabulary], "merges.txt"),
      (["vocab.json": vocabulary, "merges.txt": Array("a b c\n".utf8)], "line 1"),
      (["vocab.json": vocabulary, "merges.txt": Array("#version: 0.2\n\nab\n".utf8)], "line 3"),
      (["vocab.json": vocabulary, "merges.txt": Array("q q\n".utf8)], "'qq'"),
      (["vocab.json": vocabulary, "merges.txt": [0xff, 0xfe, 0x20, 0xff]], "merges"),
      (["vocab.json": Array("{\"a\": 1}".utf8), "merges.txt": merges], "<|startoftext|>"),
      (["vocab.json": Array("{\"a\": -1}".utf8), "merges.txt": merges], "ids"),
      (["vocab.json": Array("{\"a\": \"x\"}".utf8), "merges.txt": merges], "'a'"),
      (["vocab.json": Array("{}".utf8), "merges.txt": merges], "ids"),
      (["tokenizer.json": Array("{\"model\": {\"type\": \"Unigram\"}}".utf8)], "byte-pair"),
    ] as [([String: [UInt8]], String)] {
      let folder = TemporaryModel(
        Dictionary(uniqueKeysWithValues: files.map { ("tokenizer/\($0.key)", $0.value) }))
      let error = #expect(throws: ConfigError.self) { try CLIPTokenizer(ModelDirectory(folder.path)) }
      #expect(error?.description.contains(expected) == true, "\(error?.description ?? "") lacks \(expected)")
    }
  }

  @Test func specialTokensAreReadFromTheFolder() throws {
    var files = [
      "tokenizer/vocab.json": try directory.read("tokenizer/vocab.json"),
      "tokenizer/merges.txt": try directory.read("tokenizer/merges.txt"),
    ]
    files["tokenizer/special_tokens_map.json"] = Array(
      #"{"pad_token": {"content": "!", "lstrip": false}, "bos_token": "<|startoftext|>"}"#.utf8)
    let folder = TemporaryModel(files)
    let tokenizer = try CLIPTokenizer(try ModelDirectory(folder.path))
    #expect(tokenizer.padding == 0 && tokenizer.encode("", length: 4).suffix(2) == [0, 0])
  }

  /// What a user pastes must neither trap nor take long.
  @Test func hugePromptsAreCut() throws {
    let tokenizer = try CLIPTokenizer.clipL()
    for text in [
      String(repeating: "ab", count: 500_000), String(repeating: "a ", count: 500_000), "\u{301}\u{0}",
    ] {
      let ids = tokenizer.encode(text)
      #expect(ids.count == 77 && ids[0] == tokenizer.startOfText && ids[76] == tokenizer.endOfText)
    }
  }

  // MARK: - Text encoder

  private func source() throws -> ResidentSource {
    try ResidentSource(loading: try SafetensorsSource(directory, component: "text_encoder"))
  }

  private func config() throws -> CLIPTextConfig {
    try CLIPTextConfig(.object(try directory.json("text_encoder/config.json")), file: "config.json")
  }

  @Test func hiddenStatesAgreeWithTheReference() throws {
    let model = try CLIPTextModel(try CLIPKeyNaming.renamed(try source()), try config())
    let prompts = try (0..<4).map { try golden.integers("text.\($0).in.ids") }
    let together = try model(prompts, .plain)
    for (index, ids) in prompts.enumerated() {
      let difference = Difference(try model([ids], .plain), try golden["text.\(index).out.hidden"])
      #expect(difference.relative < 1e-5, "\(index): \(difference)")
      let same = Difference(together.narrow(0, from: index, length: 1).contiguous(), try model([ids], .plain))
      #expect(same.relative < Tolerance.operation, "\(same)")
    }
  }

  @Test(arguments: ["", "text_model.", "cond_stage_model.transformer.text_model."])
  func everyNamingGivesTheSameModel(_ prefix: String) throws {
    let base = try source()
    let found = try #require(CLIPKeyNaming.prefix(base))
    var tensors: [String: Tensor] = [:]
    for name in base.names {
      tensors[prefix + name.dropFirst(found.utf8.count)] = try base.load(
        name, shape: base.shape(of: name) ?? [])
    }
    tensors[prefix + "embeddings.position_ids"] = Tensor.zeros([1, 77])
    let renamed = try CLIPKeyNaming.renamed(ResidentSource(name: "x", tensors: tensors))
    #expect(!renamed.names.contains { $0.hasSuffix("position_ids") })
    let ids = try golden.integers("text.0.in.ids")
    let model = try CLIPTextModel(renamed, try config())
    let plain = try CLIPTextModel(try CLIPKeyNaming.renamed(base), try config())
    #expect(try model([ids], .plain).array() == plain([ids], .plain).array())
  }

  @Test func idsBeyondTheTableAreAnError() throws {
    let model = try CLIPTextModel(try CLIPKeyNaming.renamed(try source()), try config())
    #expect(throws: ConfigError.self) { try model([[1, 1 << 20]], .plain) }
    #expect(throws: ConfigError.self) { try model([[-1]], .plain) }
  }

  @Test func otherFilesAreRefused() throws {
    let error = #expect(throws: ConfigError.self) {
      try CLIPKeyNaming.renamed(ResidentSource(name: "x", tensors: ["a": Tensor.zeros([1])]))
    }
    #expect(error?.description.contains("CLIP") == true)
    var json = try directory.json("text_encoder/config.json")
    for (key, value) in [
      ("hidden_act", JSONValue.string("gelu")), ("model_type", .string("t5")),
      ("num_attention_heads", .integer(3)),
      ("hidden_size", .integer(0)), ("layer_norm_eps", .integer(0)), ("max_position_embeddings", .integer(1)),
      ("num_hidden_layers", .integer(-1)),
    ] {
      let before = json[key]
      json[key] = value
      let error = #expect(throws: ConfigError.self, "\(key)") {
        try CLIPTextConfig(.object(json), file: "config.json")
      }
      #expect(error?.key == key)
      json[key] = before
    }
  }

  @Test func shapeFollowsFromTheTensors() throws {
    let renamed = try CLIPKeyNaming.renamed(try source())
    let inferred = try CLIPTextConfig(inferredFrom: renamed)
    var expected = try config()
    // Heads of 64 are no part of the shapes.
    expected.numAttentionHeads = 1
    #expect(inferred == expected)
  }
}
