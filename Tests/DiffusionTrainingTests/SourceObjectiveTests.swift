import DiffusionLayers
import DiffusionPipelines
import DiffusionTraining
import Glibc
import TensorCore
import TestSupport
import Testing

/// Pairs of clips, before and after.
@Suite struct SourceObjectiveTests {
  private static let model = Result { try VideoModel.load(Fixture.path("tag_model")) }
  private static let flow = TrainingNoise.flow(shift: 1, timesteps: 1000)

  private func recipe(share: Double, animated: Double = 0, steps: Int = 6) -> TrainingRecipe {
    var recipe = TrainingRecipe()
    (recipe.rank, recipe.steps, recipe.batch, recipe.learningRate, recipe.warmup) = (2, steps, 3, 1e-2, 2)
    (recipe.source.share, recipe.source.animated, recipe.saveEvery) = (share, animated, 4)
    return recipe
  }

  private func clip(_ seed: UInt64, frames: Int = 4, size: Int = 4) -> CachedClip {
    var random = TorchRandom(seed: seed)
    let shape = [1, 3, frames, size, size]
    return CachedClip(
      latents: random.randn(shape), source: random.randn(shape),
      sample: TrainingSample(name: "", frames: [], caption: ""))
  }

  @Test(arguments: [(0.3, 1.0), (0.55, 0.4), (0.8, 0.2)])
  func targetsFollowTheFormula(level: Double, ahead: Double) throws {
    let clip = clip(1)
    let source = try #require(clip.source)
    var random = TorchRandom(seed: 9)
    let noise = random.randn(clip.latents.shape)
    let objective = SampleObjective(Self.flow, recipe(share: 1), sharesNoise: false)
    let (noisy, weight) = objective.sample(
      clip.latents, from: source, noise: noise, level: level, ahead: ahead)
    let (s, share) = (Float(level), Float(ahead))
    let first = source * (1 - s) + noise * s
    #expect(Difference(noisy.input, first * share + clip.latents * (1 - share)).relative < 1e-5)
    #expect(Difference(noisy.target, (first - clip.latents) * (1 / s)).relative < 1e-5)
    #expect(abs(noisy.timestep - 1000 * s * share) < 1e-2)
    #expect(abs(weight - 4 * s * s) < 1e-5)
  }

  @Test func schedulesStartAtTheNoisedSource() throws {
    let clip = clip(2)
    let source = try #require(clip.source)
    var random = TorchRandom(seed: 9)
    let noise = random.randn(clip.latents.shape)
    // ᾱ = 0.36 at the level 0.7: 0.6 of the source, 0.8 of the noise.
    let objective = SampleObjective(
      .schedule(alphasCumprod: [0.9, 0.36], prediction: .epsilon), recipe(share: 1), sharesNoise: false)
    let (noisy, weight) = objective.sample(clip.latents, from: source, noise: noise, level: 0.7, ahead: 1)
    #expect(noisy.timestep == 1 && abs(weight - 4 * 0.64) < 1e-5)
    #expect(Difference(noisy.input, source * 0.6 + noise * 0.8).relative < 1e-5)
    // What the predicted noise leaves of it is the clip.
    #expect(Difference((noisy.input - noisy.target * 0.8) * (1 / 0.6), clip.latents).relative < 1e-5)
  }

  /// The clip that a flow's sample says is behind it.
  private func clean(_ drawn: SampleObjective.Drawn) -> Tensor {
    drawn.noisy.input.adding(drawn.noisy.target, scaledBy: -drawn.noisy.timestep / 1000)
  }

  @Test(arguments: [0.0, 1.0]) func framesFollowTheirStrengths(share: Double) throws {
    let clip = clip(3, frames: 6)
    let source = try #require(clip.source)
    let objective = SampleObjective(Self.flow, recipe(share: share, animated: 1), sharesNoise: true)
    var random = TorchRandom(seed: 4)
    for time in [0.1, 0.5, 0.9] {
      let drawn = objective(clip, time: time, &random)
      #expect(drawn.strengths.count == 6 && Set(drawn.strengths).count > 1)
      let curve = Tensor(drawn.strengths, shape: [1, 1, 6, 1, 1])
      #expect(
        Difference(clean(drawn), source * (curve * -1 + 1) + clip.latents * curve).relative < 1e-4)
      #expect(drawn.weight == (share == 0 ? 1 : drawn.weight) && drawn.weight > 0.3 && drawn.weight < 2.6)
    }
    let held = objective(clip, time: 0.5, isHeldOut: true, &random)
    #expect(held.strengths.isEmpty)
    #expect(Difference(clean(held), clip.latents).relative < 1e-4)
  }

  @Test func framesShareNoiseAsVideoToVideoStarts() throws {
    // Source and clip are nothing, so that the sample is noise alone.
    let shape = [1, 3, 2, 64, 64]
    let clip = CachedClip(
      latents: Tensor.zeros(shape), source: Tensor.zeros(shape),
      sample: TrainingSample(name: "", frames: [], caption: ""))
    var recipe = recipe(share: 1)
    recipe.source.levels = [0.5, 0.5]
    for (shares, expected) in [(true, StreamNoise.sharedVariance(0.5)), (false, 0)] {
      var random = TorchRandom(seed: 8)
      let objective = SampleObjective(Self.flow, recipe, sharesNoise: shares)
      let target = objective(clip, time: 0.5, &random).noisy.target
      let values = target.array()
      var (products, squares): (Float, Float) = (0, 0)
      for channel in 0..<3 {
        for place in 0..<4096 {
          let (a, b) = (values[channel * 8192 + place], values[channel * 8192 + 4096 + place])
          products += a * b
          squares += (a * a + b * b) / 2
        }
      }
      #expect(abs(products / squares - expected) < 0.03)
      #expect(abs(squares / 12288 - 1) < 0.05)
    }
  }

  @Test func curves() {
    var random = TorchRandom(seed: 6)
    let curves = (0..<300).map { _ in SampleObjective.curve(5, &random) }
    for curve in curves {
      #expect(curve.count == 5 && curve.allSatisfy { (0...1).contains($0) } && Set(curve).count > 1)
      #expect(curve == curve.sorted() || curve == Array(curve.sorted().reversed()))
    }
    #expect(Set(curves.map(\.first)).count > 2 && curves.contains { Set($0).count == 2 })
    #expect([[0], [1]].contains(SampleObjective.curve(1, &random)))
  }

  @Test func strengthsAndWeightsReachTheRun() throws {
    let model = try Self.model.get()
    let trainer = try Trainer(model, Before(count: 3), recipe(share: 1), method: PlainMethod())
    let context = try model.embedding(of: "disc", cancellation: Cancellation())
    var random = TorchRandom(seed: 2)
    let (clean, noise) = (random.randn([1, 3, 2, 8, 16]), random.randn([1, 3, 2, 8, 16]))
    let noisy = NoisingTarget(Self.flow)(clean, noise: noise, time: 0.4)
    func gradients(_ strengths: [Float], weight: Float = 1) throws -> (loss: Float, gradients: [Tensor]) {
      try trainer.gradients(1) { _ in
        var item = BatchItem(noisy: noisy, context: context)
        (item.strengths, item.weight) = (strengths, weight)
        return item
      }
    }
    let (whole, half, off, mixed, heavy) = (
      try gradients([]), try gradients([0.5, 0.5]), try gradients([0, 0]), try gradients([0, 1]),
      try gradients([], weight: 3)
    )
    for index in stride(from: 1, to: whole.gradients.count, by: 2) {
      #expect(Difference(half.gradients[index] * 2, whole.gradients[index]).relative < 1e-4)
      #expect(off.gradients[index].array().allSatisfy { $0 == 0 })
      #expect(Difference(heavy.gradients[index], whole.gradients[index] * 3).relative < 1e-5)
    }
    #expect(mixed.gradients[1].array() != whole.gradients[1].array())
    #expect(abs(heavy.loss - 3 * whole.loss) < 1e-5 * heavy.loss)
  }

  @Test func resumedTrainingHasTheSameBytes() throws {
    let folder = try ClipDatasetTests.Folder()
    let output = folder.path + "/adapter.safetensors"
    let (model, recipe) = (try Self.model.get(), recipe(share: 0.7, animated: 0.5))
    var options = TrainingOptions()
    options.dtype = .bfloat16
    _ = try Training.run(model, data: Before(count: 5), recipe: recipe, output: output, options: options)
    func bytes() throws -> [UInt8] {
      let file = try ByteSource.open(output)
      return try file.bytes(0..<file.count)
    }
    let expected = try bytes()
    unlink(output)
    var first = options
    first.cancellation = Cancellation()
    first.progress = { [cancellation = first.cancellation] in if $0.step == 3 { cancellation.cancel() } }
    #expect(throws: TrainingError.self) {
      try Training.run(model, data: Before(count: 5), recipe: recipe, output: output, options: first)
    }
    options.resumes = true
    let summary = try Training.run(
      model, data: Before(count: 5), recipe: recipe, output: output, options: options)
    #expect(summary.stepsNow == 3)
    #expect(try bytes() == expected)
    // Half the bytes, the same numbers to eight bits.
    let file = try SafetensorsFile(path: output)
    #expect(file.names.allSatisfy { file.entries[$0]?.dtype == .bfloat16 })
    #expect(try model.adapted(with: [AdapterRequest(path: output)]).adapters[0].matchedKeys == 32)
  }

  @Test func storedTypesRound() throws {
    let folder = try ClipDatasetTests.Folder()
    var random = TorchRandom(seed: 3)
    var pair = AdapterFactors(module: "blocks.0.attn1.to_q", shape: [6, 8], rank: 2, random: &random)
    pair.up = random.randn(pair.up.shape)
    for (dtype, bound) in [(DType.float32, Float(0)), (.float16, 0x1p-11), (.bfloat16, 0x1p-8)] {
      let path = folder.path + "/\(dtype).safetensors"
      try TrainedAdapter(factors: [pair], scale: 1, dtype: dtype).write(to: path)
      let file = try SafetensorsFile(path: path)
      let name = try #require(file.names.first { $0.contains("lora_B") })
      #expect(file.entries[name]?.dtype == dtype)
      let read = try file.load(name)
      for (a, b) in zip(read.array(), pair.up.array()) { #expect(abs(a - b) <= bound * abs(b) + 1e-8) }
      if dtype != .float32 { #expect(read.array() != pair.up.array()) }
    }
  }

  @Test func sourcesOfFiles() throws {
    let (folder, before) = (try ClipDatasetTests.Folder(), try ClipDatasetTests.Folder())
    try folder.clip("a.safetensors", [2, 8, 16, 3])
    try folder.clip("b.safetensors", [2, 2, 8, 16, 3])
    try before.clip("a.safetensors", [2, 8, 16, 3], first: 5)
    try before.clip("b.safetensors", [2, 2, 8, 16, 3], first: 9)
    let alone = try ClipDataset(folder.path)
    #expect(try alone.source(0) == nil && !alone.hasSource(0))
    #expect(throws: TrainingError.self) {
      try Trainer(try Self.model.get(), alone, recipe(share: 0.5), method: PlainMethod())
    }
    let pairs = try alone.paired(with: ClipDataset(before.path)).cut(to: 1)
    #expect(try pairs.source(0)?[0].pixels[0] == 5 && pairs.source(2)?[1].pixels.count == 384)
    let sample = try pairs.sample(0, draw: 0)
    #expect(sample.frames.count == 1 && sample.source.count == 1 && pairs.hasSource(2))

    // Both in one file.
    let together = try ClipDatasetTests.Folder()
    func write(_ shape: [Int]) throws {
      var writer = SafetensorsWriter(metadata: [])
      writer.add("frames", bytes: [UInt8](repeating: 1, count: 768), dtype: .uint8, shape: [2, 8, 16, 3])
      writer.add(
        "source", bytes: [UInt8](repeating: 2, count: shape.reduce(1, *)), dtype: .uint8, shape: shape)
      try writer.write(to: together.path + "/c.safetensors")
    }
    try write([2, 8, 16, 3])
    #expect(try ClipDataset(together.path).source(0, 1..<2)?[0].pixels.first == 2)

    // Every mistake is one sentence.
    func refusal(_ body: () throws -> ClipDataset) -> String {
      switch Result(catching: body) {
      case .success: "taken"
      case .failure(let error): "\(error)"
      }
    }
    try write([2, 16, 8, 3])
    #expect(refusal { try ClipDataset(together.path) }.contains("both must be uint8 of one shape"))
    let one = try ClipDatasetTests.Folder()
    try one.clip("a.safetensors", [2, 8, 16, 3])
    #expect(refusal { try alone.paired(with: ClipDataset(one.path)) }.contains("has no clip 'b#0'"))
    try before.clip("a.safetensors", [2, 16, 16, 3])
    let size = refusal { try alone.paired(with: ClipDataset(before.path, sizes: .any)) }
    #expect(size.contains("2 frames 16x8") && size.contains("2 frames 16x16"))
  }

  @Test func recipesSayWhatTheyNeed() throws {
    let model = try Self.model.get()
    let error = #expect(throws: TrainingError.self) {
      try Trainer(model, Stripes(count: 3), recipe(share: 0.8), method: PlainMethod())
    }
    #expect("\(try #require(error))".contains("has no source"))
    var lion = try #require(TrainingRecipe.named["lion"])
    lion.source.share = 0.5
    let clash = #expect(throws: TrainingError.self) {
      try Trainer(model, Before(count: 3), lion, method: PlainMethod())
    }
    #expect("\(try #require(clash))".contains("method lora"))
    let changed = try TrainingRecipe().changed(by: ["source": ["share": 0.5, "levels": [0.4, 0.6]]])
    #expect(changed.source.share == 0.5 && changed.source.levels == [0.4, 0.6])
    let wrong: [JSONValue] = [
      ["share": 2], ["levels": [0.8, 0.3]], ["levels": [0.5]], ["levels": [0, 1]], ["other": 1], 0.8,
    ]
    for value in wrong {
      #expect(throws: TrainingError.self) { try TrainingRecipe().changed(by: ["source": value]) }
    }
    #expect(try #require(TrainingRecipe.named["restyle"]).json.keys.count <= 25)
  }
}

/// Stripes, and the same upside down as what was before.
struct Before: TrainingData {
  let count: Int
  var isFixed: Bool { true }

  func hasSource(_ index: Int) -> Bool { true }

  func sample(_ index: Int, draw: UInt64) throws -> TrainingSample {
    var sample = try Stripes(count: count).sample(index, draw: draw)
    sample.source = sample.frames.map {
      Frame(width: $0.width, height: $0.height, pixels: $0.pixels.reversed())
    }
    return sample
  }
}
