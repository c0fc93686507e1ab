import DiffusionLayers
import DiffusionModels
import Synchronization
import TensorCore
import TestSupport
import Testing

/// Prompts that were prepared once, against prompts prepared at every step.
@Suite struct WanPromptTests {
  private let config: WanConfig
  private let base: SafetensorsSource

  init() throws {
    let directory = try ModelDirectory(Fixture.path("wan_tiny"))
    config = try WanConfig(.object(try directory.json("transformer/config.json")), file: "config.json")
    base = try SafetensorsSource(directory, component: "transformer")
  }

  private func model(adapters: [String] = []) throws -> WanTransformer {
    let matches = try adapters.map {
      try LoRAFile(path: Fixture.path("wan_tiny_loras/\($0)")).match(against: base, strict: true)
    }
    return try WanTransformer(Weights(AdaptedSource(base, adapters: matches)), config)
  }

  private func inputs(text: Int) -> (latents: Tensor, context: Tensor) {
    var random = TorchRandom(seed: 9)
    return (random.randn([2, config.inChannels, 2, 4, 4]), random.randn([2, text, config.textDim]))
  }

  @Test func preparedOnceOrAtEveryStep() throws {
    let model = try model()
    let (latents, context) = inputs(text: 7)
    let prompt = try model.prepare(context: context, .plain)
    for time in [Float(3), 800] {
      let now = try model(latents, timesteps: [time, time], context: context, .plain).array()
      #expect(try model(latents, timesteps: [time, time], prompt: prompt, .plain).array() == now)
    }
  }

  @Test func otherStrengthsNeedNoNewPrompt() throws {
    let model = try model(adapters: ["wan_tiny.peft.safetensors"])
    let (latents, context) = inputs(text: 7)
    let first = try model.prepare(context: context, RunContext(strengths: [[1]]))
    var results: [[Float]] = []
    for strengths: [Float] in [[1], [0.25], [0], [0.5, 1.5]] {
      let run = RunContext(strengths: [strengths])
      let prompt = try model.updated(first, run)
      let found = try model(latents, timesteps: [500, 500], prompt: prompt, run).array()
      #expect(try model(latents, timesteps: [500, 500], context: context, run).array() == found)
      results.append(found)
    }
    #expect(results[0] != results[1] && results[1] != results[2])
    let plain = try self.model()
    #expect(try plain(latents, timesteps: [500, 500], context: context, .plain).array() == results[2])
  }

  /// Equal rows at the end count as one key of their weight.
  @Test func paddingIsOneKey() throws {
    let model = try model()
    let (latents, short) = inputs(text: 5)
    let padded = Tensor.concatenated([short, Tensor.zeros([2, 40, config.textDim])], axis: 1)
    // The same with the padding told apart by one number that changes next to nothing.
    var values = padded.array()
    for row in 0..<90 where row % 45 >= 5 { values[row * config.textDim] = Float(row) * 1e-9 }
    let merged = try model(latents, timesteps: [500, 500], context: padded, .plain)
    let apart = try model(
      latents, timesteps: [500, 500], context: Tensor(values, shape: padded.shape), .plain)
    #expect(Difference(merged, apart).relative < 1e-5)
    // Which is not what the prompt gives without padding.
    #expect(
      Difference(try model(latents, timesteps: [500, 500], context: short, .plain), apart).relative > 1e-3)
  }

  @Test func tapsSeeEveryBlock() throws {
    let model = try model()
    let (latents, context) = inputs(text: 5)
    let seen = Mutex<[Int]>([])
    var run = RunContext.plain
    run.attentionTap = { block, query, key in
      let weights = Tensor.attentionWeights(query.narrow(1, from: 0, length: 2), key)
      #expect(weights.shape == [2, query.shape[2], 2, key.shape[1]])
      seen.withLock { $0.append(block) }
    }
    let tapped = try model(latents, timesteps: [1, 1], context: context, run).array()
    #expect(try model(latents, timesteps: [1, 1], context: context, .plain).array() == tapped)
    #expect(seen.withLock { $0 } == Array(0..<config.numLayers))
  }
}
