import DiffusionLayers
import DiffusionModels
import TensorCore

/// Timings of a model's parts on this machine, beside the machine's own ceiling measured in the same run.
public enum ModelBenchmark {
  /// What is timed.
  public enum Workload: String, Sendable, CaseIterable {
    /// One call of the denoiser, batch 1.
    case step
    /// A whole clip of video-to-video: encode, all steps with guidance, decode.
    case clip
    /// The autoencoder's halves, all frames of a clip.
    case vaeEncode = "vae-encode"
    case vaeDecode = "vae-decode"
    /// A prompt and its opposite through the text encoder.
    case text
  }

  public struct Result: Sendable, Equatable {
    public let workload: String
    public let precision: String
    public let threads: Int
    public let bestSeconds: Double
    public let medianSeconds: Double
    /// 2 × multiply-adds of all linear layers, convolutions and attentions.
    public let gflop: Double
    /// `gflop / bestSeconds`.
    public let gflops: Double
    /// The same threads on one large matrix product.
    public let ceilingGflops: Double
    public let peakTensorBytes: Int
    public let loadSeconds: Double
    public let frames: Int
    public let width: Int
    public let height: Int
  }

  /// Times `repeats` runs after one warm-up. Sizes of 0 take the model's own.
  /// - Parameter adapters: each with its strength, beside the weights (not merged).
  /// - Throws: what loading and running throw.
  public static func run(
    _ path: String, options: LoadOptions = LoadOptions(), workload: Workload, frames: Int = 0, width: Int = 0,
    height: Int = 0, settings: SamplerSettings = SamplerSettings(),
    adapters: [(request: AdapterRequest, strength: Float)] = [], repeats: Int = 3
  ) throws -> Result {
    let before = now()
    var model = try VideoModel.load(path, options: options)
    if !adapters.isEmpty { model = try model.adapted(with: adapters.map(\.request)) }
    let loadSeconds = now() - before
    let (frames, width, height) = (
      frames > 0 ? frames : model.info.clipLength, width > 0 ? width : model.info.trainedWidth,
      height > 0 ? height : model.info.trainedHeight
    )
    try model.checkBudget(frames: frames, width: width, height: height)
    let body = try body(
      model, workload, frames: frames, width: width, height: height, settings, adapters.map(\.strength))
    FlopCounter.start()
    try body()
    let gflop = FlopCounter.stop() / 1e9
    TensorMemory.resetPeak()
    var seconds: [Double] = []
    for _ in 0..<max(1, repeats) {
      let start = now()
      try body()
      seconds.append(now() - start)
    }
    let peak = TensorMemory.peakBytes
    seconds.sort()
    return Result(
      workload: workload.rawValue, precision: model.info.precision.rawValue, threads: EngineThreads.count,
      bestSeconds: seconds[0],
      medianSeconds: seconds[seconds.count / 2], gflop: gflop, gflops: gflop / seconds[0],
      ceilingGflops: MachineCeiling.gflops(), peakTensorBytes: peak, loadSeconds: loadSeconds, frames: frames,
      width: width, height: height)
  }

  private static func body(
    _ model: VideoModel, _ workload: Workload, frames: Int, width: Int, height: Int,
    _ settings: SamplerSettings, _ strengths: [Float]
  ) throws -> () throws -> Void {
    var random = TorchRandom(seed: 0)
    let run = RunContext(strengths: strengths.map { [$0] })
    let (rows, columns) = (model.padded(height) / model.codec.ratio, model.padded(width) / model.codec.ratio)
    let latents = random.randn([1, model.codec.channels, model.info.latentFrames(frames), rows, columns])
    let source = (0..<frames).map { frame in
      Frame(
        width: width, height: height,
        pixels: (0..<width * height * 3).map { UInt8(truncatingIfNeeded: ($0 / 3 % width + frame) * 2) })
    }
    switch workload {
    case .step:
      let input = random.randn([
        1, model.denoiser.inChannels, model.info.latentFrames(frames), rows, columns,
      ])
      let context = random.randn([1, model.text.length, model.denoiser.textDim])
      // Once per prompt, as in a run.
      let prompt = try model.denoiser.preparePrompt(context, run)
      return {
        var cache = FirstBlockCache()
        _ = try model.denoiser.predict(input, timesteps: [700], prompt: prompt, run, cache: &cache)
      }
    case .vaeEncode:
      return {
        _ = try model.codec.encode(source, height: model.padded(height), width: model.padded(width), run)
      }
    case .vaeDecode:
      return { _ = try model.codec.decode(latents, height: height, width: width, run) }
    case .text:
      let settings = SamplerSettings(prompt: "a person walks near the water at night", negativePrompt: "dark")
      return { _ = try model.text.encodeAnew(settings, run) }
    case .clip:
      return {
        var stream = try VideoStream(model: model, clipLength: frames, overlap: 0)
        for frame in source {
          _ = try stream.push(frame, strength: 0.5, adapterStrengths: strengths, settings: settings)
        }
        _ = try stream.drain(settings: settings)
      }
    }
  }
}
