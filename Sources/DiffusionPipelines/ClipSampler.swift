import DiffusionLayers
import DiffusionModels
import TensorCore

/// What text-to-video and video-to-video share: settings resolved against the model, and the denoising of one
/// clip.
struct ClipSampler {
  let model: VideoModel
  let steps: Int
  let guidanceScale: Float
  let cacheThreshold: Float
  let config: any SchedulerConfig
  let compose: ComposeMode
  private let settings: SamplerSettings
  private let caption: [String]?
  private let text = SamplerText()

  /// Resolves settings and encodes the text.
  init(
    _ model: VideoModel, settings: SamplerSettings, caption: [String]? = nil,
    monitor: RunMonitor = RunMonitor(), stages: inout StageSeconds
  ) throws {
    guard (0...10000).contains(settings.steps) else {
      throw PipelineError.option(name: "steps", value: "\(settings.steps)", reason: "must lie in 0…10000")
    }
    guard settings.guidanceScale.isFinite else {
      throw PipelineError.option(
        name: "guidance-scale", value: "\(settings.guidanceScale)", reason: "must be finite")
    }
    guard (0...1).contains(settings.cacheThreshold) else {
      throw PipelineError.option(
        name: "cache-threshold", value: "\(settings.cacheThreshold)", reason: "must lie in 0…1")
    }
    self.model = model
    cacheThreshold = settings.cacheThreshold
    compose = settings.compose
    steps = settings.steps > 0 ? settings.steps : model.info.defaultSteps
    guidanceScale = settings.guidanceScale >= 0 ? settings.guidanceScale : model.info.defaultGuidance
    config = try model.scheduler.config(for: settings.scheduler)
    (self.settings, self.caption) = (settings, caption)
    // Bad text is an error before anything else happens; adapters of the text encoder need their strengths.
    if !model.text.isAdapted {
      _ = try encoded(RunContext(cancellation: monitor.cancellation), &stages)
    }
  }

  /// The text at the adapters' mean strengths of `run`, encoded once for all runs that agree in them.
  private func encoded(_ run: RunContext, _ stages: inout StageSeconds) throws -> SamplerText.Entry {
    let strengths = model.text.isAdapted ? run.strengths.indices.map { run.meanStrength(of: $0) } : []
    let before = now()
    defer { stages.text += now() - before }
    return try text.entry(strengths) {
      try model.text.encode(settings, caption: caption, guidanceScale: guidanceScale, run)
    }
  }

  /// The run's context: the mean strength of the output frames behind each latent frame, as a multiplier or, for
  /// adapters with a strength token, as the token.
  /// - Throws: `PipelineError.option` for a strength that is not finite.
  func context(adapterStrengths: [[Float]], frames: Int, monitor: RunMonitor) throws(PipelineError)
    -> RunContext
  {
    for (index, values) in adapterStrengths.enumerated() {
      if let value = values.first(where: { !$0.isFinite }) {
        throw .option(name: "lora_\(index)::strength", value: "\(value)", reason: "must be finite")
      }
    }
    var run = RunContext(cancellation: monitor.cancellation)
    run.compose = compose
    for adapter in 0..<model.adapters.count {
      let given = adapter < adapterStrengths.count ? adapterStrengths[adapter] : []
      let values = (0..<frames).map { $0 < given.count ? given[$0] : given.last ?? 1 }
      // 0 over the whole clip is off; a token's 0 somewhere in it is a motion of strength 0.
      guard let token = model.controls[adapter], values.contains(where: { $0 != 0 }) else {
        run.strengths.append(perTokenFrame(values))
        continue
      }
      let positions = perTokenFrame(values.map(token.position))
      run.controls.append(
        ControlSignal(
          adapterIndex: adapter,
          tokens: token.tokens(token.style.places(positions)).reshaped([1, -1, token.width]), bias: token.bias
        ))
      run.strengths.append(token.style.pairs == .scaled ? positions : [1])
    }
    return run
  }

  /// One value per token frame: the mean over the output frames of its latent frames.
  private func perTokenFrame(_ values: [Float]) -> [Float] {
    let (latents, patch) = (model.info.latentFrames(values.count), model.info.temporalPatch)
    return stride(from: 0, to: latents, by: patch).map { start in
      let part = (start..<min(latents, start + patch)).flatMap { model.info.frames(ofLatent: $0) }
        .map { values[min($0, values.count - 1)] }
      return part.reduce(0, +) / Float(part.count)
    }
  }

  /// Reports a clip as done, after its last frame was decoded.
  func reportEnd(ofClip clip: Int, steps: Int, _ monitor: RunMonitor) {
    monitor.progress?(GenerationProgress(clip: clip, step: steps, steps: steps, fraction: 1, etaSeconds: 0))
  }

  /// The loop of one clip: the whole schedule, or the part that `strength` leaves of it.
  /// - Parameter run: the clip's context, for adapters of the text encoder.
  /// - Throws: `PipelineError.option` when the schedule cannot have so many steps; what encoding text throws.
  func loop(_ run: RunContext, strength: Float? = nil, stages: inout StageSeconds) throws -> DenoisingLoop {
    let text = try encoded(run, &stages)
    let (scheduler, firstStep) =
      if let strength {
        try config.scheduler(steps: steps, strength: strength)
      } else {
        (try config.scheduler(steps: steps), 0)
      }
    return DenoisingLoop(
      denoiser: model.denoiser, windows: model.contextWindows, coordinatePlanes: model.coordinatePlanes,
      scheduler: scheduler,
      firstStep: firstStep, conditioning: text.conditioning, guidanceScale: guidanceScale,
      promptKeys: text.keys)
  }

  /// All steps of one clip, with progress after each; nine tenths of the work count as done then, the rest is
  /// decoding. Adds its seconds and steps to `stages`.
  func denoise(
    _ latents: Tensor, _ loop: DenoisingLoop, clip: Int, _ run: RunContext, _ monitor: RunMonitor,
    stages: inout StageSeconds, noise: () -> Tensor
  ) throws -> Tensor {
    var cache = FirstBlockCache(threshold: cacheThreshold)
    let steps = loop.steps
    let start = now()
    monitor.progress?(GenerationProgress(clip: clip, step: 0, steps: steps, fraction: 0, etaSeconds: nil))
    let result = try loop.run(latents, run, cache: &cache, noise: noise) { step, _ in
      let spent = now() - start
      monitor.progress?(
        GenerationProgress(
          clip: clip, step: step, steps: steps, fraction: 0.9 * Double(step) / Double(steps),
          etaSeconds: spent / Double(step) * Double(steps - step)))
    }
    stages.denoise += now() - start
    stages.steps += steps
    stages.cachedSteps += cache.reused
    return result
  }
}
