import DiffusionLayers
import DiffusionModels
import DiffusionPipelines
import DiffusionTraining
import Glibc
import TensorCore
import TestSupport
import Testing

/// `train lion`: a strength token trained beside the pairs, from label to file to run.
@Suite struct LionTrainingTests {
  private static let model = Result { try VideoModel.load(Fixture.path("tag_model")) }
  private let folder: String

  init() {
    folder = "/tmp/videolora-lion-\(getpid())-\(UInt32.random(in: 0 ... .max))"
    mkdir(folder, 0o755)
  }

  private var output: String { folder + "/lion.safetensors" }

  private func remove() { _ = "rm -rf \(folder)".withCString { system($0) } }

  private func bytes(_ path: String) throws -> [UInt8] {
    let source = try ByteSource.open(path)
    return try source.bytes(0..<source.count)
  }

  private func recipe(steps: Int = 4) throws -> TrainingRecipe {
    var recipe = try #require(TrainingRecipe.named["lion"])
    (recipe.rank, recipe.steps, recipe.batch, recipe.learningRate, recipe.warmup) = (2, steps, 2, 1e-2, 0)
    recipe.licence = "CC0-1.0"
    return recipe
  }

  /// Clips that shift by as many pixels a frame as their label says, 0…1.
  private struct Shifts: TrainingData {
    var count = 6
    var amplitude: @Sendable (Int) -> JSONValue? = { .number(Double($0) / 5) }
    var isFixed: Bool { true }

    func label(_ index: Int) -> (name: String, label: JSONObject)? {
      var label: JSONObject = ["camera": "pan_left"]
      if let value = amplitude(index) { label["amplitude"] = value }
      return ("shift \(index)", label)
    }

    func sample(_ index: Int, draw: UInt64) throws -> TrainingSample {
      let speed = Float(label(index)?.label["amplitude"]?.double ?? 0)
      let frames = (0..<4).map { frame in
        Frame(
          width: 16, height: 8,
          pixels: (0..<384).map { place in
            let x = Float(place / 3 % 16) - 3 * speed * Float(frame)
            return UInt8(127 + 100 * sinf(0.8 * x + Float(place % 3)))
          })
      }
      return TrainingSample(
        name: "shift \(index)", frames: frames, caption: "disc pan_left",
        label: label(index)?.label ?? JSONObject())
    }
  }

  @Test func trainedFileSaysWhatItIsAndRuns() throws {
    defer { remove() }
    let model = try Self.model.get()
    let summary = try Training.run(model, data: Shifts(), recipe: recipe(), output: output)
    // 16 layers of rank 2, two vectors of the model's width 32, a bias for each of the two blocks.
    #expect(summary.layers == 16 && summary.parameters == 16 * 2 * 64 + 2 * 32 + 2)
    let file = try LoRAFile(path: output)
    let header = try #require(try file.header())
    #expect(header.method == "lion" && header.role == "camera" && header.base == "wan" && header.rank == 2)
    #expect(header.strengthRange == 0...1 && header.licence == "CC0-1.0" && header.calibration == nil)
    let measured = try file.measuredNorms()
    #expect(header.weightNorms.count == 16)
    for (module, norm) in header.weightNorms { #expect(abs(norm - (measured[module] ?? 0)) < 1e-6) }
    let token = try #require(try file.controlToken())
    #expect(token.width == 32 && token.bias.count == 2 && token.coefficients.shape == [2, 32])
    // The token's bias has started at its share and has moved.
    let share = Float(try recipe().control.share)
    let keys = try model.attentionKeys
    let start = logf(share / (1 - share) * Float(keys))
    #expect(token.bias.array().allSatisfy { abs($0 - start) < 0.5 && $0 != start })

    func frames(_ strength: Float) throws -> [Frame] {
      var stages = StageSeconds()
      return try TextToVideo.run(
        model.adapted(with: [AdapterRequest(path: output)]),
        settings: SamplerSettings(prompt: "disc", steps: 2, guidanceScale: 1), frames: 4, width: 16,
        height: 8,
        adapterStrengths: [[strength]], stages: &stages)
    }
    #expect(try frames(0.5) != frames(1) && frames(0) != frames(1))
  }

  /// What the trainer gives the model is what a run of the written file gives it.
  @Test(arguments: ControlStyle.Tokens.allCases, ControlStyle.Pairs.allCases)
  func trainerAndRunMakeTheSameToken(tokens: ControlStyle.Tokens, pairs: ControlStyle.Pairs) throws {
    defer { remove() }
    let model = try Self.model.get()
    var recipe = try recipe()
    recipe.control.style = ControlStyle(tokens: tokens, pairs: pairs)
    let method = try LionMethod(recipe, for: model)
    var trainer = try Trainer(model, Shifts(), recipe, method: method)
    for _ in 0..<3 { _ = try trainer.step() }
    let extra = trainer.state.extra.map(\.value)
    let token = try #require(method.control(extra))
    let factors = trainer.state.factors
    var header = AdapterHeader()
    header.control = token.style
    try TrainedAdapter(factors: factors, scale: 1, header: header, control: token).write(to: output)
    let context = try model.embedding(of: "disc", cancellation: Cancellation())
    var random = TorchRandom(seed: 3)
    let latents = random.randn([1, 3, 4, 8, 16])
    let trained = try model.prediction(
      trainer.backbone(), latents, timesteps: [400], context: context,
      method.context(.plain, label: ["amplitude": 0.6], frames: 4, extra: extra))
    let file = try LoRAFile(path: output)
    let source = AdaptedSource(
      model.backboneSource, adapters: [try file.match(against: model.backboneSource, strict: true)])
    let stored = try #require(try file.controlToken())
    #expect(stored.style == recipe.control.style)
    var run = RunContext(strengths: [[pairs == .scaled ? 0.6 : 1]])
    let places: [Float] = tokens == .path ? [0, 0.2, 0.4, 0.6] : [0.6, 0.6, 0.6, 0.6]
    run.controls = [
      ControlSignal(adapterIndex: 0, tokens: stored.tokens(places).reshaped([1, 4, 32]), bias: stored.bias)
    ]
    let loaded = try model.prediction(
      model.backbone(from: source), latents, timesteps: [400], context: context, run)
    let difference = Difference(loaded, trained)
    #expect(difference.relative < 1e-5, "\(difference)")
  }

  /// Gradients of the token's tensors against differences of the loss, with and without checkpointing.
  @Test(arguments: [false, true]) func gradientsReachTheToken(checkpointing: Bool) throws {
    let model = try Self.model.get()
    var recipe = try recipe()
    recipe.checkpointing = checkpointing
    recipe.control.share = 0.3
    var trainer = try Trainer(model, Shifts(), recipe, method: try LionMethod(recipe, for: model))
    for _ in 0..<3 { _ = try trainer.step() }
    let context = try model.embedding(of: "disc", cancellation: Cancellation())
    var random = TorchRandom(seed: 8)
    let (clean, noise) = (random.randn([1, 3, 4, 8, 16]), random.randn([1, 3, 4, 8, 16]))
    let noisy = NoisingTarget(.flow(shift: 1, timesteps: 1000))(clean, noise: noise, time: 0.5)
    func evaluate(_ state: TrainableState) throws -> (loss: Float, gradients: [Tensor]) {
      var copy = trainer
      copy.resume(state)
      return try copy.gradients(1) { _ in
        BatchItem(noisy: noisy, context: context, label: ["amplitude": 0.7])
      }
    }
    let state = trainer.state
    let gradients = try evaluate(state).gradients
    for place in state.values.count - 3..<state.values.count {
      // Along the gradient itself the loss changes by its squared norm.
      let direction = gradients[place]
      let norm = (direction * direction).sum().array()[0].squareRoot()
      #expect(norm > 0, "\(state.names[place])")
      let step: Float = 0.02
      let losses = try [step, -step].map { by -> Float in
        var moved = state
        moved.values[place] = state.values[place].adding(direction, scaledBy: by / norm)
        return try evaluate(moved).loss
      }
      let found = (losses[0] - losses[1]) / (2 * step)
      #expect(abs(found / norm - 1) < 0.05, "\(state.names[place]): \(found), \(norm)")
    }
  }

  @Test(arguments: [1, 3]) func resumedTrainingHasTheSameBytes(interruptedAfter step: Int) throws {
    defer { remove() }
    let model = try Self.model.get()
    let recipe = try recipe()
    _ = try Training.run(model, data: Shifts(), recipe: recipe, output: output)
    let expected = try bytes(output)
    unlink(output)
    var options = TrainingOptions()
    options.progress = { [cancellation = options.cancellation] in if $0.step == step { cancellation.cancel() }
    }
    #expect(throws: TrainingError.self) {
      try Training.run(model, data: Shifts(), recipe: recipe, output: output, options: options)
    }
    var again = TrainingOptions()
    again.resumes = true
    _ = try Training.run(model, data: Shifts(), recipe: recipe, output: output, options: again)
    #expect(try bytes(output) == expected)
  }

  @Test func labelsThatCannotBeTrainedOnAreNamed() throws {
    defer { remove() }
    let model = try Self.model.get()
    let cases: [(@Sendable (Int) -> JSONValue?, String)] = [
      ({ $0 == 3 ? nil : 0.5 }, "'shift 3' has no label 'amplitude'"),
      ({ $0 == 2 ? -0.5 : 0.5 }, "'shift 2' has the amplitude -0.5"), ({ _ in "strong" }, "no label"),
    ]
    for (amplitude, words) in cases {
      let error = #expect(throws: TrainingError.self) {
        try Training.run(model, data: Shifts(amplitude: amplitude), recipe: try recipe(), output: output)
      }
      #expect("\(try #require(error))".contains(words), "\(String(describing: error))")
    }
    // A move with a mirror image.
    var both = try recipe(steps: 1)
    both.control.range = [-1, 1]
    _ = try Training.run(
      model, data: Shifts(amplitude: { .number($0 == 2 ? -0.5 : 0.5) }), recipe: both, output: output)
    #expect(try LoRAFile(path: output).controlToken()?.range == -1...1)
    var missing = try recipe(steps: 1)
    missing.control.orthogonalTo = [folder + "/nothing.safetensors"]
    #expect(throws: LoRAError.self) {
      try Training.run(model, data: Shifts(), recipe: missing, output: output)
    }
  }

  @Test func penaltyKeepsAdaptersApart() throws {
    defer { remove() }
    let model = try Self.model.get()
    let other = folder + "/other.safetensors"
    _ = try Training.run(model, data: Shifts(), recipe: recipe(), output: other)
    func trained(weight: Double) throws -> (header: AdapterHeader, cosine: Double) {
      var recipe = try recipe(steps: 60)
      recipe.control.orthogonalTo = [other]
      recipe.control.orthogonality = weight
      _ = try Training.run(model, data: Shifts(), recipe: recipe, output: output)
      let report = try AdapterInterference([try LoRAFile(path: other), try LoRAFile(path: output)])
      let mean = report.layers.reduce(0) { $0 + $1.cosine } / Double(report.layers.count)
      return (try #require(try LoRAFile(path: output).header()), mean)
    }
    // Both start from the same seed, so without the penalty their input directions are alike.
    let (free, apart) = (try trained(weight: 0), try trained(weight: 1000))
    #expect(apart.cosine < 0.5 * free.cosine, "\(apart.cosine), \(free.cosine)")
    #expect(apart.header.orthogonality.count == 16)
    let stored = apart.header.orthogonality.values.reduce(0, +) / 16
    #expect(abs(stored - apart.cosine) < 1e-9)
  }

  @Test func samplesOfATrainingHaveItsToken() throws {
    defer { remove() }
    var options = TrainingOptions()
    options.sampleEvery = 2
    options.sample = { model, _ in
      #expect(model.adapters.count == 1 && model.adapters[0].trainedRange == 0...1)
    }
    _ = try Training.run(
      try Self.model.get(), data: Shifts(), recipe: recipe(), output: output, options: options)
  }

  @Test func pathsSumUpWhatCameBefore() {
    let path = ControlStyle(tokens: .path)
    func close(_ a: [Float], _ b: [Float]) -> Bool { zip(a, b).allSatisfy { abs($0 - $1) < 1e-6 } }
    #expect(close(path.places([0.5, 0.5, 0.5]), [0, 0.25, 0.5]))
    // Standing still, then going; the first frame's strength moves nothing.
    #expect(close(path.places([1, 0, 1]), [0, 0, 0.5]) && path.places([0.3]) == [0.3])
    #expect(ControlStyle().places([0.1, 0.2]) == [0.1, 0.2])
  }

  // MARK: - calibration

  @Test func tablesStraightenCurves() throws {
    // Amplitude s² over 0…1: s = √strength.
    let curve = StrengthCalibration(
      range: 0...1, rest: 0, amplitudes: (0...100).map { Float($0 * $0) / 10_000 })
    let table = try #require(curve.table)
    for (index, s) in table.enumerated() { #expect(abs(s - sqrtf(Float(index) / 100)) < 0.006) }
    // A dip is levelled, an end that falls off is cut to what was reached.
    let rough = StrengthCalibration(range: 0...1, rest: 0, amplitudes: [0, 0.3, 0.2, 0.6, 1.0, 0.9])
    for (found, expected) in zip(rough.monotone, [0, 0.25, 0.25, 0.6, 0.95, 0.95] as [Float]) {
      #expect(abs(found - expected) < 1e-6)
    }
    let steps = try #require(rough.table)
    #expect(zip(steps, steps.dropFirst()).allSatisfy { $0 <= $1 } && abs((steps.last ?? 0) - 0.8) < 1e-6)
    // Motion that is there at s = 0 already is left out of the line from rest.
    let high = StrengthCalibration(range: 0...1, rest: 0, amplitudes: [0.5, 0.75, 1])
    #expect(high.table == [0, 0, 1])
    #expect(StrengthCalibration(range: 0...1, rest: 0, amplitudes: [0.3, 0.2, 0]).table == nil)
    let mirrored = StrengthCalibration(range: -1...1, rest: 0, amplitudes: [-1, 0, 1])
    #expect(mirrored.table == [-1, 0, 1])
  }

  @Test func strengthOneIsTheWantedMotion() {
    func table(_ amplitudes: [Float], beyond: [Float] = [], full: Float) -> [Float]? {
      StrengthCalibration(range: 0...1, rest: 0, amplitudes: amplitudes, beyond: beyond, full: full).table
    }
    // Past the range where the end of it is not enough, as far as the motion goes; before its end where it is too much.
    #expect(table([0, 0.25, 0.5], beyond: [0.75, 1], full: 1) == [0, 1, 1.5])
    #expect(table([0, 0.25, 0.5], beyond: [0.75], full: 1) == [0, 0.75, 1.25])
    #expect(table([0, 1, 2], full: 1) == [0, 0.25, 0.5])
    let found = StrengthCalibration(range: 0...2, rest: 0, amplitudes: [0, 1], beyond: [1.5], full: 2)
    #expect(found.positions == [0, 2, 2.5])
  }

  @Test func measuredTablesAreStored() throws {
    defer { remove() }
    let model = try Self.model.get()
    _ = try Training.run(model, data: Shifts(), recipe: recipe(), output: output)
    let adapted = try model.adapted(with: [AdapterRequest(path: output)])
    var settings = SamplerSettings(prompt: "disc")
    (settings.steps, settings.guidanceScale) = (1, 1)
    let clips = StrengthCalibration.Clips(settings: settings, captions: [nil, ["square"]], seeds: [1, 2])
    var done: [Int] = []
    let found = try StrengthCalibration.measure(adapted, .camera(.panLeft), clips: clips, points: 3) {
      number, _ in
      done.append(number)
    }
    #expect(done == Array(1...8) && found.amplitudes.count == 3 && found.positions == [0, 0.5, 1])
    let file = try LoRAFile(path: output)
    var header = try #require(try file.header())
    header.calibration = [0, 0.75, 1]
    let other = folder + "/table.safetensors"
    try LoRAWriter.write(file, header: header, path: other)
    let written = try LoRAFile(path: other)
    #expect(try written.header() == header && written.controlToken()?.position(0.5) == 0.75)
    #expect(written.metadata("recipe") == file.metadata("recipe") && written.totalKeys == file.totalKeys)
    for name in file.storedNames { #expect(try written.bytes(name) == file.bytes(name)) }
    // A second measurement is of the token itself, whatever the table says.
    let again = try model.adapted(with: [AdapterRequest(path: other)])
    #expect(try StrengthCalibration.measure(again, .camera(.panLeft), clips: clips, points: 3) == found)
    // More motion than it can make: s goes on while there is more of it.
    let more = try StrengthCalibration.measure(again, .camera(.panLeft), clips: clips, points: 3, full: 9)
    #expect(more.amplitudes == found.amplitudes && more.beyond.count <= 4)
    let curve = [more.amplitudes[2]] + more.beyond
    #expect(zip(curve, curve.dropFirst()).allSatisfy { $0 < $1 })
    // Nothing to calibrate in an adapter without a token.
    var plain = try recipe(steps: 1)
    plain.method = "lora"
    _ = try Training.run(model, data: Shifts(), recipe: plain, output: folder + "/plain.safetensors")
    let multiplied = try model.adapted(with: [AdapterRequest(path: folder + "/plain.safetensors")])
    #expect(throws: TrainingError.self) {
      try StrengthCalibration.measure(multiplied, .object, clips: clips)
    }
  }
}

extension LoRAFile {
  /// Names and bytes of the file's tensors.
  fileprivate var storedNames: [String] { (try? SafetensorsFile(path: name))?.names ?? [] }
  fileprivate func bytes(_ tensor: String) throws -> [UInt8] { try SafetensorsFile(path: name).bytes(tensor) }
}
