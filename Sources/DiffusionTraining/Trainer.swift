package import DiffusionLayers
package import DiffusionModels
package import DiffusionPipelines
import Synchronization
package import TensorCore

/// One sample of a batch, ready for the model.
package struct BatchItem: Sendable {
  package let noisy: NoisyLatents
  /// `[1, L, textDim]`
  package let context: Tensor
  package let label: JSONObject
  /// A latent frame, drawn, for losses that compare the others with one.
  package let anchor: Int
  /// Of the adapter, by frame of tokens; empty where it acts whole.
  package var strengths: [Float] = []
  /// Of its error in the loss.
  package var weight: Float = 1

  package init(
    noisy: NoisyLatents, context: Tensor, label: JSONObject = JSONObject(), anchor: Int = 0
  ) {
    self.anchor = anchor
    self.noisy = noisy
    self.context = context
    self.label = label
  }

  init(_ drawn: SampleObjective.Drawn, context: Tensor, label: JSONObject, anchor: Int = 0) {
    self.init(noisy: drawn.noisy, context: context, label: label, anchor: anchor)
    (strengths, weight) = (drawn.strengths, drawn.weight)
  }
}

/// The steps of a training: batches, gradients, updates. Everything that a step needs comes from the recipe's seed and
/// the number of the step, so that a resumed training goes on bit by bit as it would have.
package struct Trainer {
  package let model: VideoModel
  package let recipe: TrainingRecipe
  package let method: any TrainingMethod
  package private(set) var state: TrainableState
  private let source: any WeightSource
  private let objective: SampleObjective
  private let rate: LearningRate
  private let random: StepRandom
  private let cache: ClipCache
  private let cancellation: Cancellation
  /// Factors of the values' gradients, nil where all of a tensor is trained; empty where everything is.
  private let masks: [Tensor?]
  /// Clips that are trained on and those kept back.
  private let training: [Int]
  package let heldOut: [Int]
  /// Whether the samples of a batch run side by side, one thread each: small models lose less that way.
  private let runsSideBySide: Bool

  package init(
    _ model: VideoModel, _ data: any TrainingData, _ recipe: TrainingRecipe, method: any TrainingMethod,
    promptEmbeds: String? = nil, cancellation: Cancellation = Cancellation()
  ) throws {
    self.model = model
    self.recipe = recipe
    self.method = method
    self.cancellation = cancellation
    source = try PackedSource(model.backboneSource)
    objective = SampleObjective(
      try model.trainingNoise(), recipe, sharesNoise: model.info.sharesNoise,
      patch: model.patchSize[0])
    rate = LearningRate(recipe)
    random = StepRandom(seed: recipe.seed)
    cache = try ClipCache(
      model, data, promptEmbeds: promptEmbeds, dropsCaptions: recipe.captionDropout > 0,
      cancellation: cancellation)
    guard data.count > 0 else { throw TrainingError.data(path: "the data", reason: "hold no clip") }
    try recipe.checkSources(of: data)
    let split = random.permutation(.split, 0, count: data.count)
    let kept = min(data.count - 1, Int((Double(data.count) * recipe.holdOut).rounded(.up)))
    heldOut = Array(split.prefix(kept))
    training = split.dropFirst(kept).sorted()

    var generator = random.generator(.factors)
    let targets = try AdapterTargets.find(recipe.targets, in: source)
    var factors = targets.map {
      AdapterFactors(
        module: $0.module, shape: $0.shape, rank: min(recipe.rank, $0.shape.min() ?? 1), random: &generator)
    }
    let found = try method.masks(for: factors, of: model) { [cache, training] in
      try training.prefix(4).map { index in
        let clip = try cache.clip(index, draw: 0)
        return (clip.latents, try cache.embedding(clip.sample.caption))
      }
    }
    var masks: [Tensor?] = []
    if let found {
      factors = factors.compactMap { pair in
        guard let mask = found[pair.module] else { return nil }
        masks += [mask.down, mask.up]
        var pair = pair
        if let down = mask.down { pair.down = pair.down * down }
        if let up = mask.up { pair.up = pair.up * up }
        return pair
      }
    }
    self.masks = masks
    state = TrainableState(
      factors: factors, extra: try method.parameters(for: model, &generator), recipe: recipe)
    // Errors of targets and clips before the first step.
    let trainable = TrainableSource(source, factors: factors, scale: Float(recipe.scale))
    _ = try model.backbone(from: trainable)
    try trainable.checkTaken()
    let first = try cache.clip(training[0], draw: 0).latents
    runsSideBySide = model.activationFloats(latents: first.shape) <= 5 << 20
  }

  /// Goes on from a state that was saved.
  package mutating func resume(_ state: TrainableState) { self.state = state }

  // MARK: - steps

  /// What a step did.
  package struct Report: Sendable {
    package let loss: Float
    /// Of the gradient, before clipping.
    package let norm: Double
    package let rate: Double
  }

  /// One step of the recipe.
  /// - Throws: `TrainingError.notFinite` with the state as it was before the step, `Cancelled`, or what the data throw.
  package mutating func step() throws -> Report {
    let found = try gradients(recipe.batch) { try item($0, ofStep: state.step) }
    return try update(found)
  }

  /// One step on samples that are given.
  package mutating func step(_ batch: Int, item: (Int) throws -> BatchItem) throws -> Report {
    try update(try gradients(batch, item: item))
  }

  private mutating func update(_ found: (loss: Float, gradients: [Tensor])) throws -> Report {
    let (loss, gradients) = found
    guard loss.isFinite else { throw notFinite("loss") }
    let norm = GradientNorm.of(gradients)
    guard norm.isFinite else { throw notFinite("gradient") }
    let rate = rate(state.step)
    state.update(
      gradients, loss: loss, rate: rate, clip: GradientNorm.scale(norm, limit: recipe.clipNorm),
      ema: recipe.ema)
    return Report(loss: loss, norm: norm, rate: rate)
  }

  private func notFinite(_ what: String) -> TrainingError {
    .notFinite(step: state.step + 1, what: what, checkpoint: nil)
  }

  /// The mean loss of a batch and its gradients with respect to `state.values`.
  package func gradients(_ batch: Int, item: (Int) throws -> BatchItem) throws -> (
    loss: Float, gradients: [Tensor]
  ) {
    let trainable = TrainableSource(source, factors: state.factors, scale: Float(recipe.scale))
    let backbone = try model.backbone(from: trainable)
    let extra = state.extra.map { $0.value.trainable() }
    let leaves = trainable.leaves + extra
    var (loss, sums): (Float, [Tensor]) = (0, [])
    // Added in the order of the samples, whichever thread was first.
    try forSamples(batch) { index in
      let item = try item(index)
      let error = try self.error(backbone, item, extra: extra) * (1 / Float(batch))
      return (error.array()[0], error.gradients(of: leaves))
    } take: { (part: (Float, [Tensor])) in
      loss += part.0
      if sums.isEmpty {
        sums = part.1
      } else {
        for index in sums.indices { sums[index].add(part.1[index]) }
      }
    }
    if let penalty = method.penalty(pairs: trainable.leaves, extra: extra) {
      loss += penalty.array()[0]
      for (index, part) in penalty.gradients(of: leaves).enumerated() { sums[index].add(part) }
    }
    for (index, mask) in masks.enumerated() { if let mask { sums[index] = sums[index] * mask } }
    return (loss, sums)
  }

  /// The mean loss of the clips that were kept back, always at the same noise; nil when there are none.
  package func heldOutLoss() throws -> Float? {
    guard !heldOut.isEmpty else { return nil }
    let backbone = try backbone()
    let extra = state.result.extra.map(\.value)
    var sum: Float = 0
    try forSamples(heldOut.count) { index in
      var random = random.generator(.heldOut, index)
      let clip = try cache.clip(heldOut[index], draw: 0)
      let time = (Double(index) + 0.5) / Double(heldOut.count)
      let item = BatchItem(
        objective(clip, time: time, isHeldOut: true, &random),
        context: try embedding(clip.sample.caption, of: clip.sample), label: clip.sample.label)
      return try error(backbone, item, extra: extra).array()[0]
    } take: {
      sum += $0
    }
    return sum / Float(heldOut.count)
  }

  /// The adapted backbone as it would be written now, without a tape.
  package func backbone() throws -> any VideoBackbone {
    try model.backbone(
      from: TrainableSource(
        source, factors: state.result.factors, scale: Float(recipe.scale), isRecorded: false))
  }

  private func error(_ backbone: any VideoBackbone, _ item: BatchItem, extra: [Tensor]) throws -> Tensor {
    var run = RunContext(cancellation: cancellation)
    run.recomputesActivations = recipe.checkpointing
    if !item.strengths.isEmpty { run.strengths = [item.strengths] }
    let prediction = try model.prediction(
      backbone, item.noisy.input, timesteps: [item.noisy.timestep], context: item.context,
      method.context(
        run, label: item.label, frames: item.noisy.input.shape[2] / model.patchSize[0],
        extra: extra))
    let error = method.loss(prediction, item)
    return item.weight == 1 ? error : error * item.weight
  }

  // MARK: - samples

  /// Sample `index` of a step: clips in a new order every epoch, each with noise, time and caption of its own.
  private func item(_ index: Int, ofStep step: Int) throws -> BatchItem {
    let number = step * recipe.batch + index
    let order = random.permutation(.order, number / training.count, count: training.count)
    var random = random.generator(.sample, step, index)
    let clip = try cache.clip(training[order[number % training.count]], draw: random.next64())
    let sample = clip.sample
    let time = recipe.timesteps.draw(index, of: recipe.batch, &random)
    let dropsTrigger = random.uniform() < recipe.triggerDropout
    let dropsCaption = random.uniform() < recipe.captionDropout
    let caption = dropsCaption ? "" : dropsTrigger ? withoutTrigger(sample) : sample.caption
    let drawn = objective(clip, time: time, &random)
    return BatchItem(
      drawn, context: try embedding(caption, of: sample), label: sample.label,
      anchor: random.below(clip.latents.shape[2]))
  }

  private func embedding(_ caption: String, of sample: TrainingSample) throws -> Tensor {
    do { return try cache.embedding(caption) } catch is Cancelled { throw Cancelled() } catch {
      throw TrainingError.data(path: sample.name, reason: "does not fit the model: \(error)")
    }
  }

  /// The caption without the word that the label gives for the recipe's role.
  private func withoutTrigger(_ sample: TrainingSample) -> String {
    guard let trigger = sample.label[recipe.role]?.string else { return sample.caption }
    return sample.caption.split(separator: " ").filter { $0 != trigger }.joined(separator: " ")
  }

  /// Runs `body` for every sample, side by side where that pays, and hands the results over in order.
  private func forSamples<Value: Sendable>(
    _ count: Int, _ body: (Int) throws -> Value, take: (Value) -> Void
  ) throws {
    guard runsSideBySide, count > 1 else {
      for index in 0..<count { take(try body(index)) }
      return
    }
    let results = Mutex([Result<Value, any Error>?](repeating: nil, count: count))
    parallelFor(count) { index in
      let result = Result { try body(index) }
      results.withLock { $0[index] = result }
    }
    for result in results.withLock({ $0 }) { if let result { take(try result.get()) } }
  }
}
