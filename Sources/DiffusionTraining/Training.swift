public import DiffusionLayers
public import DiffusionPipelines
public import TensorCore

/// How far a training has come.
public struct TrainingProgress: Sendable {
  public let step: Int
  public let steps: Int
  public let loss: Float
  /// Over about the last fifty steps.
  public let meanLoss: Float
  public let stepsPerSecond: Double
  public let etaSeconds: Double
}

/// What a training made.
public struct TrainingSummary: Sendable {
  public let steps: Int
  /// Steps of this run, fewer after a resumption.
  public let stepsNow: Int
  public let seconds: Double
  public let layers: Int
  public let parameters: Int
  public let losses: [Float]
  public let heldOut: [(step: Int, loss: Float)]
}

/// What a training writes beside its adapter, and how it is watched.
public struct TrainingOptions: Sendable {
  public var resumes = false
  /// How the adapter's numbers are stored: float32, bfloat16 or float16.
  public var dtype = DType.float32
  /// A log of JSON lines.
  public var log: String?
  /// The naming scheme of the adapter.
  public var naming = LoRADialect.diffusers
  /// Precomputed embeddings (`prompt_embeds`, `negative_prompt_embeds`) for all clips, in place of their captions.
  public var promptEmbeds: String?
  /// Called with the model as it is every `sampleEvery` steps; 0 never.
  public var sampleEvery = 0
  public var sample: (@Sendable (_ model: VideoModel, _ step: Int) throws -> Void)?
  public var progress: (@Sendable (TrainingProgress) -> Void)?
  /// Ends the training after the step in progress, with a checkpoint.
  public var cancellation = Cancellation()

  public init() {}
}

/// Trains an adapter from a recipe, from data to file.
public enum Training {
  /// Runs a recipe and writes the adapter to `output`.
  ///
  /// A checkpoint lies beside the output until it is written: after every `save_every` steps, and when the training is
  /// interrupted or fails. With `resumes` it goes on from there, and the adapter has the same bytes as without the
  /// interruption.
  /// - Throws: `TrainingError`, `LoRAError`, `WeightsError`, `PipelineError`.
  public static func run(
    _ model: VideoModel, data: any TrainingData, recipe: TrainingRecipe, output: String,
    options: TrainingOptions = TrainingOptions()
  ) throws -> TrainingSummary {
    try run(
      model, data: data, recipe: recipe, method: try recipe.makeMethod(for: model), output: output,
      options: options)
  }

  package static func run(
    _ model: VideoModel, data: any TrainingData, recipe: TrainingRecipe, method: any TrainingMethod,
    output: String, options: TrainingOptions
  ) throws -> TrainingSummary {
    try method.check(data)
    var trainer = try Trainer(
      model, data, recipe, method: method, promptEmbeds: options.promptEmbeds,
      cancellation: options.cancellation)
    let checkpoint = TrainingCheckpoint.path(for: output)
    let save = { (trainer: Trainer) in
      try TrainingCheckpoint.write(trainer.state, recipe: recipe, model: model.info.name, to: checkpoint)
    }
    if options.resumes {
      trainer.resume(
        try TrainingCheckpoint.read(
          checkpoint, into: trainer.state, recipe: recipe, model: model.info.name))
    }
    // The disk and the folder are tried before the first step, not after the last.
    try save(trainer)
    let log = try options.log.map { try TrainingLog($0, after: trainer.state.step) }
    var heldOut: [(step: Int, loss: Float)] = []
    let first = trainer.state.step
    let start = now()
    while trainer.state.step < recipe.steps {
      let outcome = Result { try trainer.step() }
      let report: Trainer.Report
      switch outcome {
      case .success(let value): report = value
      case .failure(let error): throw try failure(error, trainer, save, checkpoint)
      }
      let step = trainer.state.step
      let seconds = now() - start
      try log?.write([
        "step": .integer(step), "loss": .number(rounded(report.loss)), "norm": .number(report.norm),
        "lr": .number(report.rate), "seconds": .number((seconds * 1000).rounded() / 1000),
      ])
      options.progress?(progress(trainer.state, steps: recipe.steps, first: first, seconds: seconds))
      let isMilestone = step % recipe.saveEvery == 0 || step == recipe.steps
      if isMilestone {
        if step < recipe.steps { try save(trainer) }
        switch Result(catching: { try trainer.heldOutLoss() }) {
        case .success(let loss?):
          heldOut.append((step, loss))
          try log?.write(["step": .integer(step), "held_out_loss": .number(rounded(loss))])
        case .success: break
        case .failure(let error): throw try failure(error, trainer, save, checkpoint)
        }
      }
      if options.sampleEvery > 0, step % options.sampleEvery == 0, let sample = options.sample {
        let control = method.control(trainer.state.result.extra.map(\.value))
        try sample(model.replacing(backbone: try trainer.backbone(), control: control), step)
      }
      if options.cancellation.isCancelled, step < recipe.steps {
        throw try failure(Cancelled(), trainer, save, checkpoint)
      }
    }
    let result = trainer.state.result
    try save(trainer)
    let control = method.control(result.extra.map(\.value))
    let header = header(recipe, model, control)
    try TrainedAdapter(
      factors: result.factors, scale: recipe.scale, header: header, control: control,
      metadata: metadata(recipe, model), dtype: options.dtype
    ).write(to: output, as: options.naming)
    try addOrthogonality(recipe, to: output)
    TrainingCheckpoint.remove(checkpoint)
    return TrainingSummary(
      steps: recipe.steps, stepsNow: recipe.steps - first, seconds: now() - start,
      layers: result.factors.count, parameters: result.values.reduce(0) { $0 + $1.count },
      losses: trainer.state.losses, heldOut: heldOut)
  }

  /// Saves what there is, and says how it goes on.
  private static func failure(
    _ error: any Error, _ trainer: Trainer, _ save: (Trainer) throws -> Void, _ checkpoint: String
  ) throws -> any Error {
    try save(trainer)
    if error is Cancelled {
      return TrainingError.interrupted(
        step: trainer.state.step, steps: trainer.recipe.steps, checkpoint: checkpoint)
    }
    if case .notFinite(let step, let what, _)? = error as? TrainingError {
      return TrainingError.notFinite(step: step, what: what, checkpoint: checkpoint)
    }
    return error
  }

  private static func progress(_ state: TrainableState, steps: Int, first: Int, seconds: Double)
    -> TrainingProgress
  {
    let recent = state.losses.suffix(50)
    let speed = Double(state.step - first) / max(seconds, 1e-9)
    return TrainingProgress(
      step: state.step, steps: steps, loss: state.losses.last ?? 0,
      meanLoss: recent.reduce(0, +) / Float(max(1, recent.count)), stepsPerSecond: speed,
      etaSeconds: Double(steps - state.step) / max(speed, 1e-9))
  }

  /// What the adapter says of itself beside its header. No date: the same training writes the same bytes.
  private static func metadata(_ recipe: TrainingRecipe, _ model: VideoModel) -> [(String, String)] {
    let base = model.info.name.split(separator: "/").last.map(String.init) ?? model.info.name
    return [
      ("method", recipe.method), ("rank", "\(recipe.rank)"), ("base_model", base),
      ("base_family", model.info.family), ("recipe", JSONValue.object(recipe.json).serialized()),
    ] + (recipe.licence.isEmpty ? [] : [("licence", recipe.licence)])
  }

  private static func header(_ recipe: TrainingRecipe, _ model: VideoModel, _ control: ControlToken?)
    -> AdapterHeader
  {
    var header = AdapterHeader()
    (header.base, header.role, header.method) = (model.info.family, recipe.role, recipe.method)
    header.rank = recipe.rank
    (header.strengthRange, header.control) = (control?.range, control?.style)
    header.licence = recipe.licence.isEmpty ? nil : recipe.licence
    return header
  }

  /// Writes into the file how its updates lie to those it was kept away from: the mean |cosine|, by module.
  private static func addOrthogonality(_ recipe: TrainingRecipe, to output: String) throws(LoRAError) {
    guard recipe.method == "lion", !recipe.control.orthogonalTo.isEmpty else { return }
    let file = try LoRAFile(path: output)
    var sums: [String: (sum: Double, count: Int)] = [:]
    for path in recipe.control.orthogonalTo {
      for layer in try AdapterInterference([try LoRAFile(path: path), file]).layers {
        let known = sums[layer.module] ?? (0, 0)
        sums[layer.module] = (known.sum + layer.cosine, known.count + 1)
      }
    }
    var header = try file.header() ?? AdapterHeader()
    header.orthogonality = sums.mapValues { $0.sum / Double($0.count) }
    try LoRAWriter.write(file, header: header, path: output)
  }

  private static func rounded(_ loss: Float) -> Double { Double("\(loss)") ?? Double(loss) }
}
