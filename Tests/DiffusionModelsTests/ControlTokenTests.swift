import DiffusionLayers
import DiffusionModels
import Glibc
import TensorCore
import TestSupport
import Testing

/// Control tokens in the Wan transformer: who sees whom (T5).
@Suite struct ControlTokenTests {
  private static let width = 32

  /// The small Wan model with two adapters on all projections of self-attention; `second` makes the other one.
  private func model(second: UInt64 = 2) throws -> WanTransformer {
    let directory = try ModelDirectory(Fixture.path("wan_tiny"))
    let config = try WanConfig(.object(try directory.json("transformer/config.json")), file: "config.json")
    let base = try SafetensorsSource(directory, component: "transformer")
    let matches = try [1, second].map { seed -> LoRAMatch in
      var random = TorchRandom(seed: seed)
      let path = "/tmp/videolora-control-\(getpid())-\(seed).safetensors"
      var writer = SafetensorsWriter()
      for block in 0..<2 {
        for name in ["attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0"] {
          let stem = "transformer.blocks.\(block).\(name)"
          writer.add(stem + ".lora_A.weight", random.randn([2, Self.width]) * 0.3)
          writer.add(stem + ".lora_B.weight", random.randn([Self.width, 2]) * 0.3)
        }
      }
      try writer.write(to: path)
      defer { unlink(path) }
      return try LoRAFile(path: path).match(against: base, strict: true)
    }
    return try WanTransformer(Weights(AdaptedSource(base, adapters: matches)), config)
  }

  private func signal(_ adapter: Int, _ seed: UInt64, frames: Int = 3, bias: Float = 0, batch: Int = 1)
    -> ControlSignal
  {
    var random = TorchRandom(seed: seed)
    return ControlSignal(
      adapterIndex: adapter, tokens: random.randn([batch, frames, Self.width]),
      bias: Tensor([bias, bias], shape: [2]))
  }

  private func run(_ controls: [ControlSignal]) -> RunContext {
    var run = RunContext(strengths: [[1], [1]])
    run.controls = controls
    return run
  }

  private static let latents = {
    var random = TorchRandom(seed: 5)
    return (random.randn([1, 16, 3, 4, 6]), random.randn([1, 7, 24]))
  }()

  private func output(_ model: WanTransformer, _ run: RunContext, batch: Int = 1) throws -> Tensor {
    let (x, text) = Self.latents
    return try model(
      Tensor.concatenated([Tensor](repeating: x, count: batch), axis: 0),
      timesteps: [Float](repeating: 300, count: batch),
      context: Tensor.concatenated([Tensor](repeating: text, count: batch), axis: 0), run)
  }

  @Test func attentionAgreesWithTheFormula() {
    var random = TorchRandom(seed: 3)
    let (frames, perFrame, heads, size, count) = (3, 5, 2, 4, 2)
    let shape = [1, frames * perFrame, heads, size]
    let (q, k, v) = (random.randn(shape), random.randn(shape), random.randn(shape))
    let extra = [1, frames, count, heads, size]
    let (ck, cv) = (random.randn(extra), random.randn(extra))
    let bias: [Float] = [-1, 0.5]
    let found = WanControlKeys(keys: ck, values: cv, bias: Tensor(bias, shape: [2])).attention(q, k, v)
      .array()
    let (qa, ka, va, cka, cva) = (q.array(), k.array(), v.array(), ck.array(), cv.array())
    let length = frames * perFrame
    var worst: Float = 0
    for row in 0..<length {
      for head in 0..<heads {
        let at = { (token: Int) in (token * heads + head) * size }
        var scores: [(Float, ArraySlice<Float>)] = []
        func add(_ keys: [Float], _ values: [Float], _ start: Int, _ bias: Float) {
          let dot = (0..<size).reduce(Float(0)) { $0 + qa[at(row) + $1] * keys[start + $1] }
          scores.append((expf(dot / 2 + bias), values[start..<start + size]))
        }
        for token in 0..<length { add(ka, va, at(token), 0) }
        for which in 0..<count { add(cka, cva, at(row / perFrame * count + which), bias[which]) }
        let total = scores.reduce(Float(0)) { $0 + $1.0 }
        for c in 0..<size {
          let expected = scores.reduce(Float(0)) { $0 + $1.0 * $1.1[$1.1.startIndex + c] } / total
          worst = max(worst, abs(found[at(row) + c] - expected))
        }
      }
    }
    #expect(worst < 1e-5)
  }

  @Test func aTokenIsSeenByItsOwnFrameAlone() {
    var random = TorchRandom(seed: 4)
    let shape = [2, 12, 2, 4]
    let (q, k, v) = (random.randn(shape), random.randn(shape), random.randn(shape))
    let (ck, cv) = (random.randn([2, 3, 1, 2, 4]), random.randn([2, 3, 1, 2, 4]))
    let other = random.randn([2, 1, 1, 2, 4])
    let changed = Tensor.concatenated(
      [ck.narrow(1, from: 0, length: 1), other, ck.narrow(1, from: 2, length: 1)], axis: 1)
    let bias = Tensor.zeros([1])
    let before = WanControlKeys(keys: ck, values: cv, bias: bias).attention(q, k, v)
    let after = WanControlKeys(keys: changed, values: cv, bias: bias).attention(q, k, v)
    for frame in 0..<3 {
      let part = { (x: Tensor) in x.narrow(1, from: 4 * frame, length: 4).array() }
      #expect((part(before) == part(after)) == (frame != 1))
    }
  }

  @Test func tokensDoNotSeeEachOther() throws {
    let model = try model()
    let both = model.controlKeys(run([signal(0, 11), signal(1, 12)]), timesteps: [300])
    let moved = model.controlKeys(run([signal(0, 11), signal(1, 99)]), timesteps: [300])
    #expect(both.count == 2)
    for (a, b) in zip(both, moved) {
      let part = { (x: Tensor, which: Int) in x.narrow(2, from: which, length: 1).array() }
      #expect(part(a.keys, 0) == part(b.keys, 0) && part(a.values, 0) == part(b.values, 0))
      #expect(part(a.keys, 1) != part(b.keys, 1))
    }
    // Nor another adapter's weights: only the projections of their own adapter act on them.
    let rewired = try self.model(second: 7).controlKeys(
      run([signal(0, 11), signal(1, 12)]), timesteps: [300])
    for (a, b) in zip(both, rewired) {
      let part = { (x: Tensor, which: Int) in x.narrow(2, from: which, length: 1).array() }
      #expect(part(a.keys, 0) == part(b.keys, 0) && part(a.values, 0) == part(b.values, 0))
      #expect(part(a.keys, 1) != part(b.keys, 1))
    }
    // And each has a position of its own in a batch, free of the others in it.
    let alone = model.controlKeys(run([signal(0, 11)]), timesteps: [300, 300])
    for (a, b) in zip(alone, both) {
      #expect(
        Difference(a.keys.narrow(0, from: 1, length: 1), b.keys.narrow(2, from: 0, length: 1)).relative < 1e-6
      )
    }
  }

  @Test func withoutTokensNothingChanges() throws {
    let model = try model()
    let plain = try output(model, run([]))
    // A key that nobody can see.
    let hidden = Difference(try output(model, run([signal(0, 11, bias: -1e4)])), plain)
    #expect(hidden.relative < 1e-5, "\(hidden)")
    let seen = Difference(try output(model, run([signal(0, 11, bias: 2)])), plain)
    #expect(seen.relative > 1e-3, "\(seen)")
  }

  @Test func gradientsOfTokensPassCheckpointedBlocks() throws {
    let model = try model()
    let (first, second) = (signal(0, 11, bias: 1), signal(1, 12, bias: 0.5))
    let results = try [false, true].map { recomputes in
      let leaves = [first.tokens, first.bias, second.tokens].map { $0.trainable() }
      let controls = [
        ControlSignal(adapterIndex: 0, tokens: leaves[0], bias: leaves[1]),
        ControlSignal(adapterIndex: 1, tokens: leaves[2], bias: second.bias),
      ]
      var run = run(controls)
      run.recomputesActivations = recomputes
      let y = try output(model, run)
      return y.meanSquaredError(Tensor.zeros(y.shape)).gradients(of: leaves)
    }
    for (plain, recomputed) in zip(results[0], results[1]) {
      #expect(plain.array() == recomputed.array())
      #expect(plain.array().contains { abs($0) > 1e-6 } && plain.isFinite)
    }
  }

  @Test func samplesOfABatchHaveTokensOfTheirOwn() throws {
    let model = try model()
    let (a, b) = (signal(0, 11, bias: 1), signal(0, 12, bias: 1))
    let both = ControlSignal(
      adapterIndex: 0, tokens: Tensor.concatenated([a.tokens, b.tokens], axis: 0), bias: a.bias)
    let together = try output(model, run([both]), batch: 2)
    for (index, single) in [a, b].enumerated() {
      let difference = Difference(
        together.narrow(0, from: index, length: 1), try output(model, run([single])))
      #expect(difference.relative < 1e-5, "\(difference)")
    }
    // One signal serves every entry of a batch, such as both prompts of guidance.
    let shared = try output(model, run([a]), batch: 2)
    #expect(Difference(shared.narrow(0, from: 1, length: 1), try output(model, run([a]))).relative < 1e-5)
  }
}
