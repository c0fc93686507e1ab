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
    let budget = model.codecBudget(frames: frames.count, width: width, height: height)
    TensorMemory.resetPeak()
    let run = try sampler.context(adapterStrengths: adapterStrengths, frames: frames.count, monitor: monitor)
    let shape = [model.codec.channels, padHeight / model.codec.ratio, padWidth / model.codec.ratio]
    // A latent frame's noise belongs to the first frame of the stream that it holds alone.
    let keys = (0..<model.info.latentFrames(frames.count)).map { firstFrame + $0 * model.info.temporalRatio }
    let shared = model.info.sharesNoise ? StreamNoise.sharedVariance(strength) : 0
    func drawn(_ stream: StreamNoise) -> Tensor {
      stream.frames(keys, shape: shape, sharedVariance: shared)
    }
    let loop = try sampler.loop(run, strength: strength, stages: &stages)

    let start = now()
    var latents = drawn(noise)
    if strength < 1 {
      // The encoder's own draws have nothing to do with the starting noise.
      let draws =
        model.codec.drawsLatents
        ? StreamNoise(seed: noise.seed ^ 0x2545_f491_4f6c_dd1d).frames(keys, shape: shape, sharedVariance: 0)
        : nil
      let clean = try model.codec.encode(
        frames, height: padHeight, width: padWidth, budget: budget, draws: draws, run)
      latents = loop.scheduler.addNoise(clean, noise: latents, at: loop.firstStep)
    } else {
      latents = latents * loop.scheduler.initNoiseSigma
    }
    let encoded = now()
    var draws: UInt64 = 0
    latents = try sampler.denoise(latents, loop, clip: clip, run, monitor, stages: &stages) {
      // Fresh noise belongs to the stream's frames too.
      draws += 1
      return drawn(StreamNoise(seed: noise.seed ^ (draws &* 0xd1b5_4a32_d192_ed03)))
    }
    let denoised = now()
    let result = try model.codec.decode(latents, height: height, width: width, budget: budget, run)
    stages.encode += encoded - start
    stages.decode += now() - denoised
    stages.clips += 1
    sampler.reportEnd(ofClip: clip, steps: loop.steps, monitor)
    stages.peakBytes = max(stages.peakBytes, TensorMemory.peakBytes)
    return result
  }
}
