import DiffusionLayers
import DiffusionPipelines
import DiffusionTraining
import Glibc
import Synchronization
import TensorCore
import TestSupport
import Testing

/// Whole trainings: from data to file, interrupted, resumed, gone wrong.
@Suite struct TrainingRunTests {
  private static let model = Result { try VideoModel.load(Fixture.path("tag_model")) }
  private let folder: String

  init() {
    folder = "/tmp/videolora-training-\(getpid())-\(UInt32.random(in: 0 ... .max))"
    mkdir(folder, 0o755)
  }

  private var output: String { folder + "/adapter.safetensors" }

  private func recipe(steps: Int = 6) -> TrainingRecipe {
    var recipe = TrainingRecipe()
    (recipe.rank, recipe.steps, recipe.batch, recipe.saveEvery) = (2, steps, 3, 4)
    (recipe.learningRate, recipe.warmup, recipe.triggerDropout, recipe.role) = (1e-2, 2, 0.5, "camera")
    return recipe
  }

  private func bytes(_ path: String) throws -> [UInt8] {
    let source = try ByteSource.open(path)
    return try source.bytes(0..<source.count)
  }

  private func remove() { _ = "rm -rf \(folder)".withCString { system($0) } }

  @Test func adapterIsAnOrdinaryLoRA() throws {
    defer { remove() }
    let model = try Self.model.get()
    let summary = try Training.run(model, data: Stripes(count: 5), recipe: recipe(), output: output)
    #expect(summary.layers == 16 && summary.losses.count == 6 && summary.losses.allSatisfy(\.isFinite))
    let file = try LoRAFile(path: output)
    #expect(file.role == "camera" && file.metadata("method") == "lora")
    let names = try SafetensorsFile(path: output).names
    #expect(names.contains("transformer.blocks.0.attn1.to_q.lora_A.weight"))
    #expect(names.contains("transformer.blocks.1.attn2.to_out.0.lora_B.weight"))
    let header = try #require(try file.header())
    #expect(header.weightNorms["blocks.0.attn1.to_q"]?.isFinite == true && header.method == "lora")
    let adapted = try model.adapted(with: [AdapterRequest(path: output)])
    #expect(adapted.adapters[0].rank == 2 && adapted.adapters[0].matchedKeys == 32)
    // Nothing is left of the checkpoint.
    #expect(access(TrainingCheckpoint.path(for: output), F_OK) != 0)
  }

  @Test func trainingLowersTheLoss() throws {
    defer { remove() }
    var recipe = recipe(steps: 60)
    (recipe.holdOut, recipe.saveEvery, recipe.captionDropout) = (0.2, 20, 0)
    let summary = try Training.run(
      try Self.model.get(), data: Stripes(count: 5), recipe: recipe, output: output)
    let (early, late) = (summary.losses.prefix(15).reduce(0, +), summary.losses.suffix(15).reduce(0, +))
    #expect(late < 0.9 * early, "\(early) to \(late)")
    #expect(summary.heldOut.map(\.step) == [20, 40, 60])
  }

  @Test(arguments: [1, 3, 4, 5]) func resumedTrainingHasTheSameBytes(interruptedAfter step: Int) throws {
    defer { remove() }
    let model = try Self.model.get()
    var recipe = recipe()
    recipe.ema = 0.9
    _ = try Training.run(model, data: Stripes(count: 5), recipe: recipe, output: output)
    let expected = try bytes(output)
    unlink(output)
    var options = TrainingOptions()
    options.log = folder + "/log.jsonl"
    options.progress = { [cancellation = options.cancellation] in if $0.step == step { cancellation.cancel() }
    }
    let checkpoint = TrainingCheckpoint.path(for: output)
    #expect(throws: TrainingError.interrupted(step: step, steps: 6, checkpoint: checkpoint)) {
      try Training.run(model, data: Stripes(count: 5), recipe: recipe, output: output, options: options)
    }
    #expect(access(output, F_OK) != 0 && access(checkpoint, F_OK) == 0)
    var again = TrainingOptions()
    again.resumes = true
    again.log = options.log
    let summary = try Training.run(
      model, data: Stripes(count: 5), recipe: recipe, output: output, options: again)
    #expect(summary.stepsNow == 6 - step && summary.losses.count == 6)
    #expect(try bytes(output) == expected)
    let lines = try bytes(folder + "/log.jsonl").split(separator: UInt8(ascii: "\n"))
    let steps = try lines.compactMap { line -> Int? in
      let object = try JSONValue.parse(Array(line)).object
      return object?["loss"] == nil ? nil : object?["step"]?.int
    }
    #expect(steps == [1, 2, 3, 4, 5, 6])
  }

  @Test func otherOptionsDoNotResume() throws {
    defer { remove() }
    let model = try Self.model.get()
    var options = TrainingOptions()
    options.progress = { [cancellation = options.cancellation] in if $0.step == 2 { cancellation.cancel() } }
    _ = try? Training.run(model, data: Stripes(count: 5), recipe: recipe(), output: output, options: options)
    var (other, again) = (recipe(), TrainingOptions())
    (other.learningRate, again.resumes) = (2e-2, true)
    let error = #expect(throws: TrainingError.self) {
      try Training.run(model, data: Stripes(count: 5), recipe: other, output: output, options: again)
    }
    #expect("\(try #require(error))".contains("lr 0.01"))
  }

  @Test func lossThatIsNotFinite() throws {
    defer { remove() }
    var recipe = recipe(steps: 50)
    (recipe.learningRate, recipe.weightDecay, recipe.clipNorm) = (10, 10, 0)
    let error = #expect(throws: TrainingError.self) {
      try Training.run(try Self.model.get(), data: Stripes(count: 5), recipe: recipe, output: output)
    }
    guard case .notFinite(let step, _, let checkpoint?) = try #require(error) else {
      Issue.record("\(String(describing: error))")
      return
    }
    // What lies there is the state before that step, and it is sound.
    let file = try SafetensorsFile(path: checkpoint)
    #expect(file.metadata("step") == "\(step - 1)")
    for name in file.names { _ = try file.load(name) }
  }

  @Test func errorsNameTheirCause() throws {
    defer { remove() }
    let model = try Self.model.get()
    var recipe = recipe()
    recipe.targets = ["to_q", "to_nowhere"]
    let target = #expect(throws: LoRAError.self) {
      try Training.run(model, data: Stripes(count: 5), recipe: recipe, output: output)
    }
    #expect("\(try #require(target))".contains("to_nowhere"))
    #expect(throws: DatasetError.self) { try ClipDataset(folder) }
    #expect(throws: DatasetError.self) { try ClipDataset(folder + "/missing") }
    try AtomicFile.write([1, 2, 3], to: folder + "/broken.safetensors")
    #expect(throws: DatasetError.self) { try ClipDataset(folder) }
    unlink(folder + "/broken.safetensors")
    for (name, height) in [("a", 8), ("b", 12)] {
      var writer = SafetensorsWriter(metadata: [("labels", #"[{"caption": ["disc"], "camera": "pan_left"}]"#)]
      )
      writer.add(
        "frames", bytes: [UInt8](repeating: 9, count: 2 * height * 16 * 3), dtype: .uint8,
        shape: [2, height, 16, 3])
      try writer.write(to: folder + "/\(name).safetensors")
    }
    let size = #expect(throws: DatasetError.self) { try ClipDataset(folder) }
    #expect("\(try #require(size))".contains("16x12"))
    let one = try ClipDataset(folder + "/a.safetensors")
    #expect(one.count == 1)
    #expect(try one.sample(0, draw: 0).caption == "disc")
    // A folder that does not exist, and a device without space.
    #expect(throws: WeightsError.self) {
      try Training.run(
        model, data: Stripes(count: 5), recipe: self.recipe(), output: folder + "/no/x.safetensors")
    }
  }

  /// Every sample has the strength of its label, and one more tensor is pulled to zero.
  private struct Strengths: TrainingMethod {
    func parameters(for model: VideoModel, _ random: inout TorchRandom) -> [ExtraParameter] {
      [ExtraParameter(name: "control.e0", value: Tensor([2, -1], shape: [2]), rateFactor: 10)]
    }
    func context(_ run: RunContext, label: JSONObject, frames: Int, extra: [Tensor]) throws -> RunContext {
      var run = run
      run.strengths = [[Float(label["strength"]?.double ?? 1)]]
      return run
    }
    func penalty(pairs: [Tensor], extra: [Tensor]) -> Tensor? { (extra[0] * extra[0]).sum() }
  }

  @Test func methodsBringStrengthsTensorsAndPenalties() throws {
    let model = try Self.model.get()
    var trainer = try Trainer(model, Stripes(count: 5), recipe(), method: Strengths())
    let context = try model.embedding(of: "disc", cancellation: Cancellation())
    var random = TorchRandom(seed: 2)
    let (clean, noise) = (random.randn([1, 3, 2, 8, 16]), random.randn([1, 3, 2, 8, 16]))
    let noisy = NoisingTarget(.flow(shift: 1, timesteps: 1000))(clean, noise: noise, time: 0.4)
    func gradients(_ strengths: [Double]) throws -> [Tensor] {
      try trainer.gradients(strengths.count) {
        BatchItem(noisy: noisy, context: context, label: ["strength": .number(strengths[$0])])
      }.gradients
    }
    let (one, both, off) = (try gradients([1]), try gradients([0, 1]), try gradients([0]))
    let pairs = trainer.state.factors.count * 2
    for index in stride(from: 1, to: pairs, by: 2) {
      #expect(one[index].array().contains { $0 != 0 })
      #expect(off[index].array().allSatisfy { $0 == 0 })
      #expect(Difference(both[index] * 2, one[index]).relative < 1e-5)
    }
    #expect(one[pairs].array() == [4, -2])
    // Its own learning rate moves the tensor ten times as far as a factor: warm-up 2, so half of 0.01 times ten.
    _ = try trainer.step(1) { _ in BatchItem(noisy: noisy, context: context) }
    #expect(abs(trainer.state.extra[0].value.array()[0] - (2 * (1 - 0.05 * 0.01) - 0.05)) < 1e-5)
    #expect(trainer.state.names.last == "control.e0")
  }

  @Test func sameBytesForAnyThreadSplit() throws {
    // Side by side or one after the other: the sums are made in the order of the samples.
    let model = try Self.model.get()
    let trainer = try Trainer(model, Stripes(count: 5), recipe(), method: PlainMethod())
    let objective = NoisingTarget(.flow(shift: 1, timesteps: 1000))
    @Sendable func item(_ index: Int) throws -> BatchItem {
      var random = TorchRandom(seed: UInt64(index))
      let clean = random.randn([1, 3, 2, 8, 16])
      return BatchItem(
        noisy: objective(clean, noise: random.randn(clean.shape), time: 0.5),
        context: try model.embedding(of: "disc", cancellation: Cancellation()))
    }
    let (_, outside) = try trainer.gradients(3) { try item($0) }
    let inside = Mutex<[[Float]]>([])
    // A call from inside a parallel loop runs in place.
    parallelFor(2) { task in
      guard task == 1, let found = try? trainer.gradients(3, item: { try item($0) }) else { return }
      inside.withLock { $0 = found.1.map { $0.array() } }
    }
    #expect(inside.withLock { $0 } == outside.map { $0.array() })
  }
}
