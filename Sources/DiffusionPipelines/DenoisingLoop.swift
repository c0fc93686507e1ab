import DiffusionLayers
import DiffusionModels
public import TensorCore

/// Text embeddings of one prompt and its opposite, `[1, Lc, textDim]` each.
public struct Conditioning: Sendable {
  public let positive: Tensor
  /// nil where no guidance asks for it.
  public let negative: Tensor?

  public init(positive: Tensor, negative: Tensor? = nil) {
    self.positive = positive
    self.negative = negative
  }
}

/// The sampler's loop: predict, guide, step.
struct DenoisingLoop {
  let transformer: WanTransformer
  let coordinatePlanes: Bool
  let scheduler: any Scheduler
  /// Where the run enters the schedule.
  let firstStep: Int
  let conditioning: Conditioning
  let guidanceScale: Float

  /// Steps of a run.
  var steps: Int { scheduler.timesteps.count - firstStep }

  /// Runs all steps on `latents` `[1, C, F, H, W]`.
  /// - Parameters:
  ///   - noise: a fresh draw in the latents' shape, for samplers that add some.
  ///   - cache: the clip's memory of its steps.
  ///   - afterStep: sees the sample after every step, counted from 1.
  /// - Throws: `Cancelled`, or `PipelineError.notFinite`.
  func run(
    _ latents: Tensor, _ run: RunContext, cache: inout FirstBlockCache, noise: () -> Tensor,
    afterStep: (_ step: Int, _ sample: Tensor) -> Void = { _, _ in }
  ) throws -> Tensor {
    var (sample, scheduler) = (latents, scheduler)
    for index in firstStep..<scheduler.timesteps.count {
      try run.checkpoint()
      let output = try predict(
        scheduler.scaleModelInput(sample, index), scheduler.timesteps[index], run, &cache)
      sample = scheduler.step(index, sample: sample, modelOutput: output, noise: noise)
      let step = index - firstStep + 1
      guard sample.isFinite else { throw PipelineError.notFinite(step: step, steps: steps) }
      afterStep(step, sample)
    }
    return sample
  }

  /// Classifier-free guidance with both prompts in one batch; a scale of 1 needs one prompt only.
  private func predict(
    _ sample: Tensor, _ timestep: Float, _ run: RunContext, _ cache: inout FirstBlockCache
  ) throws(Cancelled) -> Tensor {
    let input = coordinatePlanes ? CoordinatePlanes.appended(to: sample) : sample
    guard guidanceScale != 1, let opposite = conditioning.negative else {
      return try transformer(
        input, timesteps: [timestep], context: conditioning.positive, run, cache: &cache)
    }
    let both = try transformer(
      Tensor.concatenated([input, input], axis: 0), timesteps: [timestep, timestep],
      context: Tensor.concatenated([conditioning.positive, opposite], axis: 0), run, cache: &cache)
    let (positive, negative) = (both.narrow(0, from: 0, length: 1), both.narrow(0, from: 1, length: 1))
    return negative.adding(positive - negative, scaledBy: guidanceScale)
  }
}
