import ArgumentParser
import DiffusionLayers
import DiffusionPipelines
import TensorCore

/// Text to video.
struct Generate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Make clips from text.",
    discussion: "Example: videolora generate --prompt \"disc flat\" --lora builtin:ink=0.8 --output clip.y4m")

  @OptionGroup var model: ModelOptions
  @OptionGroup var sampler: SamplerOptions
  @OptionGroup var adapters: AdapterOptions

  @Option(
    help: ArgumentHelp(
      "Number of clips (default: 1, or all that --prompts or --noise names).", valueName: "n"))
  var count: Int?

  @Option(
    help: ArgumentHelp(
      "JSON list of {\"caption\": [words], \"noise_seed\": n}, a clip each.", valueName: "file"))
  var prompts: String?

  @Option(help: ArgumentHelp("Starting noise: tensor noise [N, C, F, H, W], a clip each.", valueName: "file"))
  var noise: String?

  @Option(help: "Frames of a clip (0 = the model's).")
  var frames = 0

  @OptionGroup var size: SizeOptions

  @Option(help: "Frames per second written to .y4m.")
  var fps = FrameRate(8)

  @Option(help: ".safetensors (frames uint8 [N, F, H, W, 3], labels), .y4m, or a folder for PNGs.")
  var output: String

  @Flag(help: "Print the result as JSON.")
  var json = false

  func validate() throws {
    guard ClipFormat(output: output) != nil else { throw ValidationError("--output \(ClipFormat.rule).") }
    if let count, !(1...1_000_000).contains(count) { throw ValidationError("--count must lie in 1…1000000.") }
    guard frames == 0 || (1...1024).contains(frames) else {
      throw ValidationError("--frames must lie in 1…1024.")
    }
  }

  func run() throws {
    let cancellation = Interrupt.install()
    let progress = ProgressLine()
    let noise = try noise.map(NoiseFile.init)
    let requests = try requests(noise)
    let model = try model.load(adapters.requests, cancellation: cancellation, progress: progress)
    adapters.warn(model.adapters)
    let frames = try frames(model.info)
    let (width, height) = size.resolved(model.info)
    progress.announce(model.memoryForecast(frames: frames, width: width, height: height))
    guard let sink = try ClipFormat(output: output)?.open(output, rate: fps) else { return }
    let strengths = adapters.adapters.map { $0.curve.values(frames) }
    var stages = StageSeconds()
    let clock = ContinuousClock.now
    for (index, request) in requests.enumerated() {
      var settings = sampler.settings
      // The engine adds the clip's index to the seed.
      settings.seed = request.noiseSeed &- UInt64(index)
      let monitor = RunMonitor(cancellation: cancellation) { progress.show($0, of: requests.count) }
      let clip = try TextToVideo.run(
        model, settings: settings, caption: request.caption, frames: frames, width: width, height: height,
        clipIndex: index, adapterStrengths: strengths, noise: try noise?.clip(index), monitor: monitor,
        stages: &stages)
      for frame in clip { try sink.append(frame) }
      var label = request.label
      adapters.label(into: &label)
      try sink.endClip(label)
    }
    progress.clear()
    try sink.finish()
    RunSummary(
      output: output, stages: stages, wall: ContinuousClock.now - clock, width: width, height: height
    )
    .show(json: json)
  }

  /// The clips to make: from the prompt file, or `count` clips of one prompt with rising seeds.
  private func requests(_ noise: NoiseFile?) throws -> [ClipRequest] {
    if let prompts {
      let all = try PromptFile.read(prompts)
      let wanted = count ?? all.count
      guard wanted <= all.count else {
        throw CLIError(
          "--count \(wanted) asks for more clips than the \(all.count) of --prompts '\(prompts)'")
      }
      try noise?.check(clips: wanted)
      return Array(all.prefix(wanted))
    }
    let wanted = count ?? noise?.clips ?? 1
    try noise?.check(clips: wanted)
    return (0..<wanted).map { index in
      let seed = sampler.seed &+ UInt64(index)
      let words = sampler.prompt.split(separator: " ").map { JSONValue.string(String($0)) }
      return ClipRequest(
        caption: nil, noiseSeed: seed,
        label: ["caption": .array(words), "noise_seed": .integer(Int(truncatingIfNeeded: seed))])
    }
  }

  private func frames(_ info: ModelInfo) throws -> Int {
    let frames = frames > 0 ? frames : info.clipLength
    guard info.isClipLength(frames) else {
      throw CLIError("--frames \(frames) must be \(info.clipLengthRule) with '\(info.name)'")
    }
    return frames
  }
}

/// Starting noise of several clips.
struct NoiseFile {
  private let path: String
  private let tensor: Tensor

  init(_ path: String) throws {
    self.path = path
    let file = try SafetensorsFile(path: path)
    guard file.entries["noise"]?.shape.count == 5 else {
      throw CLIError("--noise '\(path)' has no tensor 'noise' of shape [N, C, F, H, W]")
    }
    tensor = try file.load("noise")
  }

  var clips: Int { tensor.shape[0] }

  func check(clips wanted: Int) throws(CLIError) {
    guard wanted <= clips else {
      throw CLIError("--noise '\(path)' holds \(clips) clips and \(wanted) are asked for; lower --count")
    }
  }

  /// `[C, F, H, W]`
  func clip(_ index: Int) throws -> Tensor { tensor.select(0, index) }
}
