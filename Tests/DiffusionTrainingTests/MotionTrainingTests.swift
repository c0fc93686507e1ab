import DiffusionLayers
import DiffusionModels
import DiffusionPipelines
import DiffusionTraining
import Glibc
import TensorCore
import TestSupport
import Testing

/// `train motion-lora`: pairs on the attention between frames, of UNets and of transformers.
@Suite struct MotionTrainingTests {
  private static let unet = Result { try VideoModel.load(Fixture.path("animatediff")) }
  private let folder: String
  private let clips = Stripes(count: 4, frames: 4, height: 16, width: 16)

  init() {
    folder = "/tmp/videolora-motion-\(getpid())-\(UInt32.random(in: 0 ... .max))"
    mkdir(folder, 0o755)
  }

  private var output: String { folder + "/motion.safetensors" }

  private func remove() { _ = "rm -rf \(folder)".withCString { system($0) } }

  private func bytes(_ path: String) throws -> [UInt8] {
    let source = try ByteSource.open(path)
    return try source.bytes(0..<source.count)
  }

  private func recipe(steps: Int = 4) throws -> TrainingRecipe {
    var recipe = try #require(TrainingRecipe.named["motion-lora"])
    (recipe.rank, recipe.steps, recipe.learningRate, recipe.warmup) = (2, steps, 0.02, 0)
    return recipe
  }

  // MARK: - UNets

  @Test func officialFilesGoRoundWithoutAChange() throws {
    defer { remove() }
    let model = try Self.unet.get()
    var options = TrainingOptions()
    options.naming = .motion
    let summary = try Training.run(model, data: clips, recipe: try recipe(), output: output, options: options)
    // Every projection of both attentions of every module, and nothing else.
    let projections = model.backboneSource.names.count {
      $0.contains(".motion_modules.") && $0.contains(".attn") && $0.hasSuffix(".weight")
    }
    #expect(projections % 8 == 0 && projections > 0 && summary.layers == projections)
    let official = try LoRAFile(path: output)
    #expect(official.dialect == .motion && official.role == "camera" && official.family == .animateDiff)
    let names = try SafetensorsFile(path: output).names
    let stem =
      "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.processor."
    #expect(names.contains(stem + "to_q_lora.down.weight") && names.contains(stem + "to_out_lora.up.weight"))
    // Official, diffusers' namings of today and of old, and back: the same numbers under the same names.
    var path = output
    for (index, dialect) in [LoRADialect.diffusers, .peft, .diffusersOld, .motion].enumerated() {
      let next = "\(folder)/\(index).safetensors"
      #expect(try LoRAWriter.convert(try LoRAFile(path: path), to: dialect, path: next) == [])
      path = next
    }
    let (first, last) = (try SafetensorsFile(path: output), try SafetensorsFile(path: path))
    #expect(first.names.sorted() == last.names.sorted())
    for name in first.names { #expect(try first[name].array() == last[name].array(), "\(name)") }
    let adapted = try model.adapted(with: [AdapterRequest(path: output)])
    #expect(adapted.adapters[0].matchedKeys == 2 * projections && adapted.adapters[0].effectiveScale == 1)
  }

  @Test(arguments: [false, true]) func gradientsAreThoseOfTheLoss(checkpointing: Bool) throws {
    let model = try Self.unet.get()
    var recipe = try recipe()
    (recipe.checkpointing, recipe.motion.debias) = (checkpointing, 0.5)
    var trainer = try Trainer(model, clips, recipe, method: MotionMethod(recipe))
    for _ in 0..<2 { _ = try trainer.step() }
    guard case .schedule(let levels, .epsilon) = try model.trainingNoise() else {
      Issue.record("the fixture predicts noise")
      return
    }
    let context = try model.embedding(of: "a fox", cancellation: Cancellation())
    var random = TorchRandom(seed: 8)
    let (clean, noise) = (random.randn([1, 4, 4, 2, 2]), random.randn([1, 4, 4, 2, 2]))
    let noisy = NoisingTarget(.schedule(alphasCumprod: levels, prediction: .epsilon))(
      clean, noise: noise, time: 0.6)
    func evaluate(_ state: TrainableState) throws -> (loss: Float, gradients: [Tensor]) {
      var copy = trainer
      copy.resume(state)
      return try copy.gradients(1) { _ in BatchItem(noisy: noisy, context: context, anchor: 2) }
    }
    let state = trainer.state
    let gradients = try evaluate(state).gradients
    for place in stride(from: 0, to: state.values.count, by: 9) {
      // Along the gradient itself the loss changes by its squared norm.
      let direction = gradients[place]
      let norm = (direction * direction).sum().array()[0].squareRoot()
      #expect(norm > 0, "\(state.names[place])")
      let step: Float = 0.003
      let losses = try [step, -step].map { by -> Float in
        var moved = state
        moved.values[place] = state.values[place].adding(direction, scaledBy: by / norm)
        return try evaluate(moved).loss
      }
      let found = (losses[0] - losses[1]) / (2 * step)
      #expect(abs(found - norm) < 0.03 * norm + 2e-5, "\(state.names[place]): \(found), \(norm)")
    }
  }

  @Test func trainingLowersTheLoss() throws {
    defer { remove() }
    var recipe = try recipe(steps: 60)
    (recipe.captionDropout, recipe.batch, recipe.holdOut, recipe.saveEvery) = (0, 3, 0.25, 60)
    let summary = try Training.run(try Self.unet.get(), data: clips, recipe: recipe, output: output)
    let (early, late) = (summary.losses.prefix(12).reduce(0, +), summary.losses.suffix(12).reduce(0, +))
    #expect(late < 0.97 * early, "\(early) to \(late)")
    #expect(summary.heldOut.count == 1)
  }

  @Test(arguments: [1, 3]) func resumedTrainingHasTheSameBytes(interruptedAfter step: Int) throws {
    defer { remove() }
    let model = try Self.unet.get()
    var recipe = try recipe()
    recipe.motion.debias = 1
    _ = try Training.run(model, data: clips, recipe: recipe, output: output)
    let expected = try bytes(output)
    unlink(output)
    var options = TrainingOptions()
    options.progress = { [cancellation = options.cancellation] in if $0.step == step { cancellation.cancel() }
    }
    #expect(throws: TrainingError.self) {
      try Training.run(model, data: clips, recipe: recipe, output: output, options: options)
    }
    var again = TrainingOptions()
    again.resumes = true
    _ = try Training.run(model, data: clips, recipe: recipe, output: output, options: again)
    #expect(try bytes(output) == expected)
  }

  @Test func clipsBeyondThePositionsAreRefused() throws {
    defer { remove() }
    let model = try Self.unet.get()
    let error = #expect(throws: TrainingError.self) {
      try Training.run(
        model, data: Stripes(count: 1, frames: 40, height: 16, width: 16), recipe: try recipe(),
        output: output)
    }
    #expect("\(try #require(error))".contains("has no positions for more"))
  }

  @Test func anchorFramesTakeOutWhatFramesShare() throws {
    var recipe = try recipe()
    recipe.motion.debias = 0.25
    var random = TorchRandom(seed: 4)
    let (prediction, target) = (random.randn([1, 2, 3, 2, 2]), random.randn([1, 2, 3, 2, 2]))
    let item = BatchItem(
      noisy: NoisingTarget(.schedule(alphasCumprod: [0.5], prediction: .sample))(
        target, noise: target, time: 0), context: target, anchor: 1)
    let (p, t) = (prediction.array().map(Double.init), target.array().map(Double.init))
    var (plain, rest) = (0.0, 0.0)
    for channel in 0..<2 {
      for frame in 0..<3 {
        for pixel in 0..<4 {
          let (at, anchor) = ((channel * 3 + frame) * 4 + pixel, (channel * 3 + 1) * 4 + pixel)
          plain += (p[at] - t[at]) * (p[at] - t[at])
          let difference = (2.0.squareRoot() * p[at] - p[anchor]) - (2.0.squareRoot() * t[at] - t[anchor])
          rest += difference * difference
        }
      }
    }
    let found = Double(MotionMethod(recipe).loss(prediction, item).array()[0])
    #expect(abs(found - (plain + 0.25 * rest) / 24) < 1e-5)
    recipe.motion.debias = 0
    #expect(abs(Double(MotionMethod(recipe).loss(prediction, item).array()[0]) - plain / 24) < 1e-5)
  }

  // MARK: - Transformers

  /// Heads that were made to look at their own frame, at the same place in all frames, everywhere, and at the neighbourhood
  /// in all frames.
  @Test(arguments: [[4, 3, 3], [6, 2, 5], [3, 9, 9]]) func plantedHeadsAreFound(_ grid: [Int]) {
    let (area, width) = (grid[1] * grid[2], grid[2])
    let (length, size) = (grid[0] * area, max(grid[0], area))
    func planted(_ neighbourhood: Bool) -> Tensor {
      Tensor(shape: [1, length, 4, size]) { values in
        values.update(repeating: 0)
        for token in 0..<length {
          let (frame, place) = (token / area, token % area)
          values[(token * 4 + 0) * size + frame] = 6
          values[(token * 4 + 1) * size + place] = 6
          for other in 0..<area {
            let distance = max(abs(other / width - place / width), abs(other % width - place % width))
            if distance <= (neighbourhood ? 1 : 0) { values[(token * 4 + 3) * size + other] = 6 }
          }
        }
      }
    }
    var random = TorchRandom(seed: 1)
    let places = HeadSums.places(area, &random)
    #expect(places.count == min(64, area) && Set(places).count == places.count)
    let sums = HeadSums(planted(false), planted(true) * Float(size).squareRoot(), grid: grid, places: places)
    #expect(sums.temporal == [false, true, false, true], "\((0..<4).map(sums.lifts))")
    #expect(abs(sums.lifts(2).spatial - 1) < 1e-3 && abs(sums.lifts(2).across - 1) < 1e-3)
  }

  /// Trains what `MotionMethod` would train of a transformer with these heads.
  private struct Heads: TrainingMethod {
    let map: HeadMap
    func masks(
      for factors: [AdapterFactors], of model: VideoModel,
      samples: () throws -> [(latents: Tensor, context: Tensor)]
    ) throws -> [String: FactorMask]? {
      MotionMethod.masks(for: factors, map, width: try model.transformerConfig.dim)
    }
  }

  @Test func otherHeadsStayAsTheyAre() throws {
    let model = try VideoModel.load(Fixture.path("tag_model"))
    let config = try model.transformerConfig
    let (heads, size) = (config.numAttentionHeads, config.attentionHeadDim)
    try #require(config.numLayers == 2 && heads > 1)
    let only = (0..<heads).map { $0 == 1 }
    var recipe = try recipe()
    recipe.weightDecay = 0.1
    let map = HeadMap(temporal: [only, only.map { _ in false }])
    var trainer = try Trainer(model, Stripes(count: 3), recipe, method: Heads(map: map))
    for _ in 0..<4 { _ = try trainer.step() }
    // The second block has no such head, and nothing is trained there.
    #expect(
      trainer.state.factors.map(\.module)
        == ["to_k", "to_out.0", "to_q", "to_v"].map { "blocks.0.attn1.\($0)" })
    for pair in trainer.state.factors {
      let change = Tensor.linear(pair.up, weight: pair.down.permuted([1, 0]).contiguous()).array()
      for row in 0..<config.dim {
        for column in 0..<config.dim {
          let head = (pair.module.hasSuffix("to_out.0") ? column : row) / size
          if head != 1 { #expect(change[row * config.dim + column] == 0) }
        }
      }
      #expect(change.contains { $0 != 0 }, "\(pair.module)")
    }
  }

  @Test func headsOfAModelAreLookedAtOnce() throws {
    defer { remove() }
    let model = try VideoModel.load(Fixture.path("tag_model"))
    let config = try model.transformerConfig
    var random = TorchRandom(seed: 5)
    let samples = [
      (
        latents: random.randn([1, 3, 2, 8, 16]),
        context: try model.embedding(of: "disc", cancellation: Cancellation())
      )
    ]
    let map = try HeadMap(of: model, samples: samples)
    #expect(map.temporal.map(\.count) == [Int](repeating: config.numAttentionHeads, count: config.numLayers))
    #expect(try HeadMap(of: model, samples: samples) == map)
    let none = HeadMap(temporal: map.temporal.map { $0.map { _ in false } })
    let pair = AdapterFactors(
      module: "blocks.0.attn1.to_q", down: random.randn([2, 32]), up: random.randn([32, 2]))
    #expect(MotionMethod.masks(for: [pair], none, width: config.dim).isEmpty)
    #expect(throws: PipelineError.self) { try HeadMap(of: Self.unet.get(), samples: samples) }
    var recipe = try recipe()
    recipe.motion.heads = .all
    let summary = try Training.run(model, data: Stripes(count: 2), recipe: recipe, output: output)
    #expect(summary.layers == 4 * config.numLayers)
    #expect(try LoRAFile(path: output).metadata("method") == "motion-lora")
  }
}
