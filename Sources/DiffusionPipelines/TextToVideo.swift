import DiffusionLayers
public import TensorCore

/// Text to video: one clip from noise.
public enum TextToVideo {
  /// Generates `frames` pictures.
  /// - Parameters:
  ///   - caption: words in place of the settings' prompt (callers with parsed captions).
  ///   - adapterStrengths: one row per adapter of the model, one value per output frame.
  ///   - noise: starting noise `[C, F, h, w]` or `[1, C, F, h, w]`; drawn from the clip's seed when nil.
  ///   - clipIndex: the clip's seed is `settings.seed + clipIndex`.
  /// - Throws: `PipelineError`, `TagTable.PromptError`, `WeightsError`, or `Cancelled`.
  public static func run(
    _ model: VideoModel, settings: SamplerSettings, caption: [String]? = nil, frames: Int, width: Int,
    height: Int,
    clipIndex: Int = 0, adapterStrengths: [[Float]] = [], noise: Tensor? = nil,
    monitor: RunMonitor = RunMonitor(),
    stages: inout StageSeconds
  ) throws -> [Frame] {
    try model.checkGeometry(frames: frames, width: width, height: height)
    try model.checkBudget(frames: frames, width: width, height: height)
    TensorMemory.resetPeak()
    let sampler = try ClipSampler(
      model, settings: settings, caption: caption, monitor: monitor, stages: &stages)
    let shape = [
      1, model.codec.channels, model.info.latentFrames(frames), model.padded(height) / model.codec.ratio,
      model.padded(width) / model.codec.ratio,
    ]
    var random = TorchRandom(seed: settings.seed &+ UInt64(clipIndex))
    let start: Tensor
    if let noise {
      guard noise.count == shape.reduce(1, *), noise.shape.suffix(4).elementsEqual(shape.suffix(4)) else {
        throw PipelineError.noise(expected: shape, found: noise.shape)
      }
      start = noise.reshaped(shape)
    } else {
      start = random.randn(Array(shape.dropFirst())).reshaped(shape)
    }
    let run = try sampler.context(adapterStrengths: adapterStrengths, frames: frames, monitor: monitor)
    let loop = try sampler.loop(run, stages: &stages)
    let latents = try sampler.denoise(
      start * loop.scheduler.initNoiseSigma, loop, clip: clipIndex, run, monitor, stages: &stages,
      noise: { random.randn(Array(shape.dropFirst())).reshaped(shape) })
    let middle = now()
    let result = try model.codec.decode(
      latents, height: height, width: width,
      budget: model.codecBudget(frames: frames, width: width, height: height), run)
    stages.decode += now() - middle
    stages.clips += 1
    sampler.reportEnd(ofClip: clipIndex, steps: loop.steps, monitor)
    stages.frames += frames
    stages.peakBytes = max(stages.peakBytes, TensorMemory.peakBytes)
    return result
  }
}
