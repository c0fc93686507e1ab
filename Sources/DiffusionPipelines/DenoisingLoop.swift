import DiffusionLayers
import DiffusionModels
import Synchronization
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

/// The last prompt that a loop prepared; it serves the later clips of a stream.
final class PromptKeys: Sendable {
  private let last = Mutex<(any BackbonePrompt)?>(nil)

  /// The prompt of `context` at the strengths of `run`; `context` must be the same in all calls.
  func callAsFunction(
    _ denoiser: any VideoBackbone, context: () -> Tensor, _ run: RunContext
  ) throws(Cancelled) -> any BackbonePrompt {
    let kept = last.withLock { $0 }
    let prompt =
      if let kept {
        try denoiser.updatePrompt(kept, run)
      } else {
        try denoiser.preparePrompt(context(), run)
      }
    last.withLock { $0 = prompt }
    return prompt
  }
}

/// The sampler's loop: predict, guide, step.
struct DenoisingLoop {
  let denoiser: any VideoBackbone
  /// How clips that are longer than the denoiser takes are cut.
  var windows = ContextWindows()
  let coordinatePlanes: Bool
  let scheduler: any Scheduler
  /// Where the run enters the schedule.
  let firstStep: Int
  let conditioning: Conditioning
  let guidanceScale: Float
  /// Shared by loops of the same conditioning and guidance.
  var promptKeys = PromptKeys()

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
    let prompt = try promptKeys(denoiser, context: { context }, run)
    for index in firstStep..<scheduler.timesteps.count {
      try run.checkpoint()
      let output = try guided(
        scheduler.scaleModelInput(sample, index), scheduler.timesteps[index], prompt, run, &cache,
        step: index - firstStep)
      sample = scheduler.step(index, sample: sample, modelOutput: output, noise: noise)
      let step = index - firstStep + 1
      guard sample.isFinite else { throw PipelineError.notFinite(step: step, steps: steps) }
      afterStep(step, sample)
    }
    return sample
  }

  /// Whether steps need the opposite prompt.
  private var isGuided: Bool { guidanceScale != 1 && conditioning.negative != nil }

  /// Both prompts in one batch, or the one that is needed.
  private var context: Tensor {
    guard isGuided, let negative = conditioning.negative else { return conditioning.positive }
    return Tensor.concatenated([conditioning.positive, negative], axis: 0)
  }

  /// Classifier-free guidance with both prompts in one batch; a scale of 1 needs one prompt only.
  private func guided(
    _ sample: Tensor, _ timestep: Float, _ prompt: any BackbonePrompt, _ run: RunContext,
    _ cache: inout FirstBlockCache, step: Int
  ) throws(Cancelled) -> Tensor {
    let input = coordinatePlanes ? CoordinatePlanes.appended(to: sample) : sample
    guard isGuided else {
      return try predict(input, [timestep], prompt, run, &cache, step: step)
    }
    let both = try predict(
      Tensor.concatenated([input, input], axis: 0), [timestep, timestep], prompt, run, &cache, step: step)
    let (positive, negative) = (both.narrow(0, from: 0, length: 1), both.narrow(0, from: 1, length: 1))
    return negative.adding(positive - negative, scaledBy: guidanceScale)
  }

  /// The model output for a whole clip, or for its windows where it is longer than the denoiser takes.
  private func predict(
    _ input: Tensor, _ timesteps: [Float], _ prompt: any BackbonePrompt, _ run: RunContext,
    _ cache: inout FirstBlockCache, step: Int
  ) throws(Cancelled) -> Tensor {
    let frames = input.shape[2]
    guard let most = denoiser.maxFrames, frames > most else {
      return try denoiser.predict(input, timesteps: timesteps, prompt: prompt, run, cache: &cache)
    }
    return try windows.limited(to: most).joined(frames: frames, step: step) { range throws(Cancelled) in
      // A window is another clip at each step, which nothing can be remembered of.
      var none = FirstBlockCache()
      return try denoiser.predict(
        input.narrow(2, from: range.lowerBound, length: range.count).contiguous(), timesteps: timesteps,
        prompt: prompt, run.narrowed(to: range), cache: &none)
    }
  }
}
