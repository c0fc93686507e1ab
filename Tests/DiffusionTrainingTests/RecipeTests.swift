import DiffusionLayers
import DiffusionPipelines
import DiffusionTraining
import TensorCore
import TestSupport
import Testing

/// Recipes, schedules, objectives, plots.
@Suite struct RecipeTests {
  @Test func recipesAreData() throws {
    let recipe = TrainingRecipe()
    for named in TrainingRecipe.named.values {
      #expect(named.json.keys.count <= 25)
      #expect(try TrainingRecipe().changed(by: named.json) == named)
    }
    let changed = try recipe.changed(by: ["rank": 4, "targets": ["to_q"], "decay": "tail", "lr": 0.5])
    #expect(
      changed.rank == 4 && changed.targets == ["to_q"] && changed.decay == .tail
        && changed.learningRate == 0.5)
    for (key, value) in [
      ("rank", JSONValue.integer(0)), ("decay", "sideways"), ("lr", "fast"), ("targets", []), ("nothing", 1),
      ("adam", [0.9, 0.99]), ("adam", [0.9, 1.0, 1e-8]), ("control", ["rat": 1]),
      ("control", ["range": [1, 0]]), ("control", ["share": 1]), ("motion", ["debias": -1]),
      ("motion", ["heads": "some"]), ("method", "lionn"), ("seed", -1),
    ] {
      let error = #expect(throws: TrainingError.self) { try recipe.changed(by: [key: value]) }
      #expect("\(try #require(error))".contains("'\(key)'"))
    }
  }

  @Test func learningRates() {
    var recipe = TrainingRecipe()
    (recipe.learningRate, recipe.warmup, recipe.steps, recipe.decay) = (2, 4, 100, .cosine)
    let cosine = LearningRate(recipe)
    #expect((0..<5).map { cosine($0) } == [0.5, 1, 1.5, 2, 2])
    #expect(abs(cosine(52) - 1) < 1e-9 && cosine(99) < 0.001)
    recipe.decay = .tail
    let tail = LearningRate(recipe)
    #expect(tail(69) == 2 && abs(tail(85) - 1) < 1e-9 && abs(tail(99) - 0.1) < 1e-9)
  }

  @Test func targetsOfEveryObjective() {
    let (clean, noise) = (Tensor([1, 2], shape: [2]), Tensor([3, -1], shape: [2]))
    func close(_ found: Tensor, _ expected: [Float]) -> Bool {
      zip(found.array(), expected).allSatisfy { abs($0 - $1) < 1e-6 }
    }
    let flow = NoisingTarget(.flow(shift: 3, timesteps: 1000))(clean, noise: noise, time: 0.25)
    #expect(abs(flow.timestep - 500) < 1e-3)
    #expect(close(flow.input, [2, 0.5]) && close(flow.target, [2, -3]))
    // ᾱ = 0.36: 0.6 of the signal, 0.8 of the noise.
    let levels = [0.9, 0.36]
    let epsilon = NoisingTarget(.schedule(alphasCumprod: levels, prediction: .epsilon))(
      clean, noise: noise, time: 0.7)
    #expect(epsilon.timestep == 1 && close(epsilon.input, [3, 0.4]) && close(epsilon.target, [3, -1]))
    let velocity = NoisingTarget(.schedule(alphasCumprod: levels, prediction: .vPrediction))(
      clean, noise: noise, time: 0.7)
    #expect(close(velocity.target, [0.6 * 3 - 0.8, -0.6 - 1.6]))
  }

  @Test func timestepsFillTheirRange() {
    for kind in TrainingRecipe.Timesteps.allCases {
      var random = TorchRandom(seed: 5)
      let times = (0..<4000).map { kind.draw($0 % 4, of: 4, &random) }
      #expect(times.allSatisfy { (0..<1).contains($0) })
      #expect(abs(times.reduce(0, +) / 4000 - 0.5) < 0.02, "\(kind)")
    }
    var random = TorchRandom(seed: 5)
    #expect(
      (0..<4).allSatisfy { Int(4 * TrainingRecipe.Timesteps.stratified.draw($0, of: 4, &random)) == $0 })
  }

  @Test func targetPatterns() throws {
    let source = ResidentSource(
      name: "m",
      tensors: Dictionary(
        uniqueKeysWithValues: ["blocks.0.attn1.to_q", "blocks.0.attn2.to_q", "blocks.1.attn1.to_q", "head"]
          .map {
            ($0 + ".weight", Tensor.zeros([3, 2]))
          }))
    func modules(_ patterns: [String]) throws -> [String] {
      try AdapterTargets.find(patterns, in: source).map(\.module)
    }
    #expect(try modules(["to_q"]).count == 3)
    #expect(try modules(["blocks.*.attn1.*"]) == ["blocks.0.attn1.to_q", "blocks.1.attn1.to_q"])
    #expect(try modules(["head", "*0*"]) == ["blocks.0.attn1.to_q", "blocks.0.attn2.to_q", "head"])
    #expect(throws: LoRAError.self) { try modules(["q"]) }
    #expect(throws: LoRAError.self) { try modules(["temporal"]) }
  }

  @Test func attentionBetweenFrames() throws {
    func modules(_ names: [String]) throws -> [String] {
      let shapes = names.map { ($0 + ".weight", Tensor.zeros([2, 2])) }
      let source = ResidentSource(name: "m", tensors: Dictionary(uniqueKeysWithValues: shapes))
      return try AdapterTargets.find(["temporal"], in: source).map(\.module)
    }
    let projections = ["to_k", "to_out.0", "to_q", "to_v"]
    let transformer = projections.flatMap { ["blocks.0.attn1.\($0)", "blocks.0.attn2.\($0)"] }
    #expect(try modules(transformer) == projections.map { "blocks.0.attn1.\($0)" })
    let motion = projections.map { "mid_block.motion_modules.0.transformer_blocks.0.attn2.\($0)" }
    let others = [
      "mid_block.attentions.0.transformer_blocks.0.attn1.to_q", "mid_block.motion_modules.0.proj_in",
    ]
    #expect(try modules(motion + others + transformer) == motion)
  }

  @Test func freshPairsChangeNothing() {
    var random = TorchRandom(seed: 1)
    let pair = AdapterFactors(module: "x", shape: [6, 16], rank: 3, random: &random)
    #expect(pair.up.array().allSatisfy { $0 == 0 })
    let values = pair.down.array()
    #expect(
      values.allSatisfy { abs($0) <= 0.25 } && (values.max() ?? 0) > 0.15 && (values.min() ?? 0) < -0.15)
  }

  @Test func plots() {
    let plot = LossPlot(losses: (1...200).map { 1 / Float($0) }, heldOut: [(100, 0.2)])
    #expect(plot.svg.hasPrefix("<svg") && plot.svg.contains("<circle") && plot.svg.hasSuffix("</svg>\n"))
    let frame = plot.frame
    #expect(frame.width == 720 && frame.pixels.contains(31))
    #expect(LossPlot(losses: []).svg.contains("polyline"))
  }
}
