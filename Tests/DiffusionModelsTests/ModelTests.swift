import DiffusionLayers
import DiffusionModels
import TensorCore
import TestSupport
import Testing

/// Whole networks against the reference implementations.
@Suite struct ModelTests {
  @Test func tinyAutoencoder() throws {
    let directory = try ModelDirectory(Fixture.root + "/models/nano")
    let parts = try ["encoder", "decoder"].map {
      Weights(try SafetensorsSource(SafetensorsFile(source: directory.source("vae/taef2_\($0).safetensors"))))
    }
    let autoencoder = try AutoencoderTiny(encoder: parts[0], decoder: parts[1], config: nil)
    let golden = try Fixture.safetensors("taef2/taef2_golden")
    let bytes = try golden.bytes("rgb_u8")  // [1, 3, 96, 160]
    let picture = Tensor(bytes.map { Float($0) / 255 }, shape: [1, 3, 96, 160]).permuted([0, 2, 3, 1])
    let latent = try autoencoder.encode(picture, .plain)
    let encoded = Difference(latent.permuted([0, 3, 1, 2]), try golden["latent"])
    #expect(encoded.relative < Tolerance.network, "\(encoded)")
    let decoded = try autoencoder.decode(try golden["latent"].permuted([0, 2, 3, 1]), .plain)
    let pixels = Difference(decoded.permuted([0, 3, 1, 2]), try golden["decoded"])
    #expect(pixels.relative < Tolerance.network, "\(pixels)")
  }

  @Test func tagModel() throws {
    let golden = try Fixture.safetensors("tag_model_golden")
    let directory = try ModelDirectory(Fixture.path("tag_model"))
    let config = try WanConfig(.object(try directory.json("transformer/config.json")), file: "config.json")
    let model = try WanTransformer(
      Weights(try SafetensorsSource(directory, component: "transformer")), config)
    let planes = Difference(CoordinatePlanes.appended(to: try golden["noise"]), try golden["input"])
    #expect(planes.relative < 1e-6, "\(planes)")
    let velocity = try model(
      try golden["input"], timesteps: try golden["t"].array(), context: try golden["text"], .plain)
    let difference = Difference(velocity, try golden["v"])
    #expect(difference.relative < Tolerance.network, "\(difference)")
  }

  @Test func tagTable() throws {
    let golden = try Fixture.safetensors("tag_model_golden")
    let directory = try ModelDirectory(Fixture.path("tag_model"))
    let table = try TagTable(
      Weights(try SafetensorsSource(directory, component: "text_encoder")),
      config: .object(try directory.json("text_encoder/config.json")),
      vocabulary: .object(try directory.json("text_encoder/vocab.json")), file: "text_encoder/config.json")
    let rows = try table.encode(["disc", "flat", "right", "static"])
    #expect(Difference(rows, try golden["text"].narrow(0, from: 0, length: 1)).relative == 0)
    #expect(try table.encode([]).array().allSatisfy { $0 == 0 })
    #expect(throws: TagTable.PromptError.unknownWord("zebra", known: table.vocabulary)) {
      try table.encode(["disc", "zebra"])
    }
    #expect(throws: TagTable.PromptError.tooManyWords(9, limit: 8)) {
      try table.encode([String](repeating: "disc", count: 9))
    }
    #expect(TagTable.words(of: "  Disc, flat\n right ") == ["disc", "flat", "right"])
  }

  @Test func configurationErrorsNameTheKey() throws {
    let directory = try ModelDirectory(Fixture.path("wan_tiny"))
    let good = try directory.json("transformer/config.json")
    for (key, value) in [
      ("num_layers", JSONValue.string("three")), ("patch_size", .array([.integer(1)])),
      ("image_dim", .integer(1280)),
      ("num_attention_heads", .integer(-3)), ("_class_name", .string("UNet2DConditionModel")),
      ("eps", .bool(true)), ("eps", .integer(0)), ("eps", .number(-1e-6)),
      ("ffn_dim", .null), ("attention_head_dim", .integer(Int.max)),
    ] {
      var changed = good
      changed[key] = value
      #expect(throws: ConfigError.self, "\(key)") { try WanConfig(.object(changed), file: "config.json") }
      do {
        _ = try WanConfig(.object(changed), file: "config.json")
      } catch {
        #expect(error.key == key && "\(error)".contains("config.json"))
      }
    }
  }

  @Test func cancellationStopsAForwardPass() throws {
    let directory = try ModelDirectory(Fixture.path("wan_tiny"))
    let config = try WanConfig(.object(try directory.json("transformer/config.json")), file: "config.json")
    let model = try WanTransformer(
      Weights(try SafetensorsSource(directory, component: "transformer")), config)
    let cancellation = Cancellation()
    cancellation.cancel()
    #expect(throws: Cancelled.self) {
      try model(
        Tensor.zeros([1, 16, 1, 4, 4]), timesteps: [1], context: Tensor.zeros([1, 2, config.textDim]),
        RunContext(cancellation: cancellation))
    }
  }
}
