import DiffusionLayers
import TensorCore

/// Video to video: one clip, started from its noised latents.
enum VideoToVideo {
  /// Transforms the frames of one window, all of one size.
  /// - Parameters:
  ///   - strength: in (0, 1]; 1 starts from pure noise and never looks at the source.
  ///   - firstFrame: index of the first frame in its stream, which chooses its noise.
  static func run(
    _ model: VideoModel, sampler: ClipSampler, frames: [Frame], strength: Float, adapterStrengths: [[Float]],
    noise: StreamNoise, firstFrame: Int, clip: Int, monitor: RunMonitor, stages: inout StageSeconds
  ) throws -> [Frame] {
    let (width, height) = (frames[0].width, frames[0].height)
    let (padWidth, padHeight) = (model.padded(width), model.padded(height))
    try model.checkGeometry(frames: frames.count, width: width, height: height)
    try model.checkBudget(frames: frames.count, width: width, height: height)
    TensorMemory.resetPeak()
    let run = try sampler.context(adapterStrengths: adapterStrengths, frames: frames.count, monitor: monitor)
    let shape = [model.codec.channels, padHeight / model.codec.ratio, padWidth / model.codec.ratio]
    let noise = noise.frames(from: firstFrame, count: frames.count, shape: shape, strength: strength)
    let scheduler = FlowMatchEuler(sampler.config, steps: sampler.steps, strength: strength)

    let start = now()
    var latents = noise
    if strength < 1 {
      let clean = try model.codec.encode(frames, height: padHeight, width: padWidth, run)
      latents = scheduler.addNoise(clean, noise: noise)
    }
    let encoded = now()
    latents = try sampler.denoise(latents, scheduler, clip: clip, run, monitor)
    let denoised = now()
    let result = try model.codec.decode(latents, height: height, width: width, run)
    stages.encode += encoded - start
    stages.denoise += denoised - encoded
    stages.decode += now() - denoised
    stages.clips += 1
    sampler.reportEnd(ofClip: clip, scheduler, monitor)
    stages.peakBytes = max(stages.peakBytes, TensorMemory.peakBytes)
    return result
  }
}
