import DiffusionLayers
import DiffusionModels
import Synchronization
import TensorCore
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// T5 and UMT5 against transformers and the Wan pipeline.
@Suite struct TextEncoderTests {
  private let golden: SafetensorsFile
  private let directory: ModelDirectory
  private let source: SafetensorsSource
  private let config: T5Config

  init() throws {
    golden = try Fixture.safetensors("text_golden")
    directory = try ModelDirectory(Fixture.path("wan_tiny"))
    source = try SafetensorsSource(directory, component: "text_encoder")
    config = try T5Config(.object(try directory.json("text_encoder/config.json")), file: "config.json")
  }

  private func ids(_ name: String) throws -> [Int] { try golden.integers("\(name).in.ids") }

  @Test func umt5() throws {
    let encoder = try T5Encoder(source: source, config: config)
    let sequences = try (0..<6).map { index in
      TokenSequence(
        try ids("text.\(index)"), visible: try golden.integers("text.\(index).in.mask").reduce(0, +))
    }
    // All in one pass, and each alone.
    let together = try encoder.hiddenStates(sequences, .plain)
    for (index, sequence) in sequences.enumerated() {
      let expected = try golden["text.\(index).out.hidden"]
      for hidden in [together[index], try encoder.hiddenStates([sequence], .plain)[0]] {
        let difference = Difference(hidden, expected)
        #expect(difference.relative < 3e-6, "text.\(index): \(difference)")
      }
    }
  }

  @Test func t5() throws {
    let directory = try ModelDirectory(Fixture.path("t5_tiny"))
    let config = try T5Config(.object(try directory.json("text_encoder/config.json")), file: "config.json")
    #expect(!config.hasBiasInEveryLayer && config.feedForward == .relu)
    let source = try SafetensorsSource(directory, component: "text_encoder")
    let encoder = try T5Encoder(source: source, config: config)
    let hidden = try encoder.hiddenStates((0..<2).map { TokenSequence(try ids("t5.\($0)")) }, .plain)
    for index in 0..<2 {
      let difference = Difference(hidden[index], try golden["t5.\(index).out.hidden"])
      #expect(difference.relative < 3e-6, "t5.\(index): \(difference)")
    }
    #expect(try T5Encoder(source: source).config == config)
  }

  @Test func promptsBecomeThePipelinesEmbeddings() throws {
    let json = try ByteSource.open(Fixture.path("text_golden.json"))
    let cases = try JSONValue.parse(try json.bytes(0..<json.count)).object ?? JSONObject()
    let prompts = (cases["embeds"]?.object?["prompts"]?.array ?? []).compactMap(\.string)
    let tokenizer = try SentencePieceTokenizer(directory)
    #expect(tokenizer.vocabularySize == config.vocabSize)
    let tokens = try prompts.map { try tokenizer.encode(cleanedPrompt($0), maxLength: 40) }
    let encoder = try T5Encoder(source: source, config: config)
    var layers: [Int] = []
    let embeddings = try encoder.encode(tokens, length: 40, .plain) { done, _ in layers.append(done) }
    #expect(layers == [1, 2])
    let difference = Difference(Tensor.concatenated(embeddings, axis: 0), try golden["embeds"])
    #expect(difference.relative < 3e-6, "\(difference)")
    #expect(
      embeddings[0].narrow(1, from: tokens[0].count, length: 40 - tokens[0].count).array().allSatisfy {
        $0 == 0
      })
  }

  @Test func aFileReadAlongGivesTheBytesOfWeightsInMemory() throws {
    let prompts = [try ids("text.0"), try ids("text.2")]
    let streamed = try T5Encoder(source: source, config: config).encode(prompts, length: 30, .plain)
    let resident = try T5Encoder(source: ResidentSource(loading: source), config: config)
      .encode(prompts, length: 30, .plain)
    #expect(streamed.map { $0.array() } == resident.map { $0.array() })
  }

  @Test func everyWeightIsReadOnceAndTheTableByRows() throws {
    let spy = CountingSource(source)
    let encoder = try T5Encoder(source: spy, config: config)
    #expect(spy.counts.isEmpty)
    _ = try encoder.encode([try ids("text.0"), try ids("text.2")], length: 24, .plain)
    let tables = spy.counts.filter { $0.key.hasPrefix("rows ") }
    let distinct = Set(try ids("text.0") + ids("text.2"))
    #expect(tables == ["rows shared.weight": distinct.count])
    let others = spy.counts.filter { !$0.key.hasPrefix("rows ") }
    #expect(Set(others.keys) == Set(source.names).subtracting(["shared.weight"]))
    #expect(others.values.allSatisfy { $0 == 1 })
  }

  @Test func theOriginalNamesGiveTheSameBytes() throws {
    let pairs = [
      ("shared", "token_embedding"), ("encoder.final_layer_norm", "norm"), ("encoder.block", "blocks"),
      ("layer.0.SelfAttention.relative_attention_bias", "pos_embedding.embedding"),
      ("layer.0.SelfAttention", "attn"), ("layer.0.layer_norm", "norm1"), ("layer.1.layer_norm", "norm2"),
      ("layer.1.DenseReluDense.wi_0", "ffn.gate.0"), ("layer.1.DenseReluDense.wi_1", "ffn.fc1"),
      ("layer.1.DenseReluDense.wo", "ffn.fc2"),
    ]
    func renamed(_ pairs: [(String, String)]) throws -> ResidentSource {
      var tensors: [String: Tensor] = [:]
      for name in source.names {
        let other = pairs.reduce(name) { $0.replacing($1.0, with: $1.1) }
        tensors[other] = try source.load(name, shape: source.shape(of: name) ?? [])
      }
      return ResidentSource(name: "renamed", tensors: tensors)
    }
    let prompts = [try ids("text.1")]
    let expected = try T5Encoder(source: source, config: config).encode(prompts, length: 30, .plain)
    let original = try renamed(pairs)
    #expect(original.names.contains("blocks.1.pos_embedding.embedding.weight"))
    for other in [original, try renamed([("shared", "encoder.embed_tokens")])] {
      let encoder = try T5Encoder(source: other)
      #expect(encoder.config == config)
      #expect(try encoder.encode(prompts, length: 30, .plain)[0].array() == expected[0].array())
    }
  }

  @Test func aTokenizerInsideTheFileIsFound() throws {
    let path = "/tmp/videolora-text-\(getpid()).safetensors"
    defer { unlink(path) }
    let bytes = try directory.read("tokenizer/spiece.model")
    var writer = SafetensorsWriter()
    for name in source.names { writer.add(name, try source.load(name, shape: source.shape(of: name) ?? [])) }
    writer.add(T5Encoder.embeddedTokenizer, bytes: bytes, dtype: .uint8, shape: [bytes.count])
    try writer.write(to: path)
    let file = try SafetensorsFile(path: path)
    #expect(try T5Encoder(source: SafetensorsSource(file)).config == config)
    let tokenizer = try SentencePieceTokenizer(
      try file.bytes(T5Encoder.embeddedTokenizer), sentinels: 300, file: path)
    #expect(try tokenizer.encode("a red fox") == SentencePieceTokenizer(directory).encode("a red fox"))
  }

  @Test func wrongFilesAndConfigurationsAreExplained() throws {
    #expect(throws: ConfigError.self) {
      try T5Encoder(source: ResidentSource(name: "x", tensors: ["a": Tensor.zeros([1])]))
    }
    var wide = config
    wide.dFf = 41
    let shape = #expect(throws: WeightsError.self) { try T5Encoder(source: source, config: wide) }
    #expect(shape?.description.contains("encoder.block.0.layer.1.DenseReluDense.wo.weight") == true)
    var deep = config
    deep.numLayers = 3
    #expect(throws: WeightsError.self) { try T5Encoder(source: source, config: deep) }
    let encoder = try T5Encoder(source: source, config: config)
    let unknown = #expect(throws: ConfigError.self) {
      try encoder.encode([[config.vocabSize]], length: 4, .plain)
    }
    #expect(unknown?.key == "vocab_size")
    let cancellation = Cancellation()
    cancellation.cancel()
    #expect(throws: Cancelled.self) {
      try encoder.encode([[5, 1]], length: 4, RunContext(cancellation: cancellation))
    }
    let json =
      #"{"model_type": "umt5", "vocab_size": 9, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2"#
    #expect(try T5Config(JSONValue.parse(json + "}"), file: "c").feedForward == .gatedGelu)
    for (key, text) in [
      ("model_type", json.replacing("umt5", with: "bert") + "}"),
      ("d_kv", json.replacing(": 4", with: ": 0") + "}"),
      ("feed_forward_proj", json + #", "feed_forward_proj": "gated-silu"}"#),
      ("relative_attention_num_buckets", json + #", "relative_attention_num_buckets": 2}"#),
      ("relative_attention_max_distance", json + #", "relative_attention_max_distance": 8}"#),
    ] {
      let error = #expect(throws: ConfigError.self) { try T5Config(JSONValue.parse(text), file: "c") }
      #expect(error?.key == key)
    }
  }
}

/// Counts what is read from a source.
private final class CountingSource: WeightSource {
  private let base: SafetensorsSource
  private let table = Mutex<[String: Int]>([:])

  init(_ base: SafetensorsSource) { self.base = base }

  var counts: [String: Int] { table.withLock { $0 } }
  var name: String { base.name }
  var names: [String] { base.names }
  func shape(of tensor: String) -> [Int]? { base.shape(of: tensor) }

  func load(_ tensor: String, shape: [Int]) throws(WeightsError) -> Tensor {
    table.withLock { $0[tensor, default: 0] += 1 }
    return try base.load(tensor, shape: shape)
  }

  func rows(_ tensor: String, shape: [Int], in range: Range<Int>) throws(WeightsError) -> Tensor {
    table.withLock { $0["rows \(tensor)", default: 0] += 1 }
    return try base.rows(tensor, shape: shape, in: range)
  }
}
