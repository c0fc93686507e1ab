import ArgumentParser
import DiffusionLayers
import DiffusionPipelines
import TensorCore

/// Video to video on raw clips.
struct Transform: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Transform clips: .safetensors, .y4m, or a video that GStreamer decodes.",
    discussion:
      "Example: videolora transform --input clip.y4m --strength 0.6 --lora builtin:ink --output out.y4m")

  @OptionGroup var model: ModelOptions
  @OptionGroup var sampler: SamplerOptions
  @OptionGroup var adapters: AdapterOptions

  @Option(help: "Clip file: .safetensors with frames uint8 [N, F, H, W, 3], .y4m, or any video.")
  var input: String

  @Option(help: "How far from the source: 0 returns it untouched, 1 ignores it.")
  var strength: Float = 0.5

  @Option(help: ArgumentHelp("The strength by frame index, linear in between.", valueName: "f0:s0,f1:s1"))
  var strengthCurve: String?

  @Option(help: "Frames per window (0 = the model's).")
  var clipLength = 0

  @Option(help: "Frames that a window shares with the one before (-1 = the model's).")
  var overlap = -1

  @Option(help: ".safetensors, .y4m, or a folder for PNGs.")
  var output: String

  @Flag(help: "Print the result as JSON.")
  var json = false

  func validate() throws {
    guard ClipFormat(output: output) != nil else { throw ValidationError("--output \(ClipFormat.rule).") }
    guard strength >= 0, strength <= 1 else { throw ValidationError("--strength must lie in 0…1.") }
    guard clipLength >= 0 else { throw ValidationError("--clip-length must be 0 or more.") }
    guard overlap >= -1 else { throw ValidationError("--overlap must be -1 or more.") }
    _ = try curve()
  }

  private func curve() throws -> StrengthCurve {
    guard let strengthCurve else { return StrengthCurve(constant: strength) }
    do {
      return try StrengthCurve(strengthCurve, in: 0...1)
    } catch {
      throw ValidationError("--strength-curve: \(error).")
    }
  }

  func run() throws {
    let cancellation = Interrupt.install()
    let progress = ProgressLine()
    let curve = try curve()
    let source = try openClips(input, media: GStreamerDecoder())
    let model = try model.load(adapters.requests, cancellation: cancellation, progress: progress)
    adapters.warn(model.adapters)
    guard let sink = try ClipFormat(output: output)?.open(output, rate: source.rate ?? FrameRate(25)) else {
      return
    }
    let adapterCurves = adapters.adapters.map(\.curve)
    let monitor = RunMonitor(cancellation: cancellation) { progress.show($0, of: nil) }
    var stages = StageSeconds()
    var size = (width: 0, height: 0)
    let clock = ContinuousClock.now
    for clip in 0..<source.clips {
      var settings = sampler.settings
      settings.seed &+= UInt64(clip)
      var stream = try VideoStream(model: model, clipLength: clipLength, overlap: overlap)
      for index in 0..<source.frames {
        let frame = try source.frame(index, clip: clip)
        if size != (frame.width, frame.height) {
          size = (frame.width, frame.height)
          progress.announce(
            model.memoryForecast(frames: stream.clipLength, width: frame.width, height: frame.height))
        }
        guard (16...8192).contains(frame.width), (16...8192).contains(frame.height) else {
          throw CLIError("'\(input)' is \(frame.width)x\(frame.height); both sides must lie in 16…8192")
        }
        let ready = try stream.push(
          frame, strength: curve.value(at: index),
          adapterStrengths: adapterCurves.map { $0.value(at: index) },
          settings: settings, monitor: monitor)
        for frame in ready { try sink.append(frame) }
      }
      for frame in try stream.drain(settings: settings, monitor: monitor) { try sink.append(frame) }
      try sink.endClip(label(source.label(clip), settings))
      stages.add(stream.stages)
    }
    progress.clear()
    try sink.finish()
    RunSummary(
      output: output, stages: stages, wall: ContinuousClock.now - clock, width: size.width,
      height: size.height
    ).show(json: json)
  }

  /// The source's label with what this run did to the clip.
  private func label(_ source: JSONObject, _ settings: SamplerSettings) -> JSONObject {
    var label = source
    if !settings.prompt.isEmpty || label["caption"] == nil {
      label["caption"] = .array(settings.prompt.split(separator: " ").map { .string(String($0)) })
    }
    label["noise_seed"] = .integer(Int(truncatingIfNeeded: settings.seed))
    label["source_strength"] = strengthCurve.map { .string($0) } ?? .number(Double("\(strength)") ?? 0)
    adapters.label(into: &label)
    return label
  }
}

extension StageSeconds {
  /// Adds the seconds and counts of another run.
  mutating func add(_ other: StageSeconds) {
    text += other.text
    encode += other.encode
    denoise += other.denoise
    decode += other.decode
    clips += other.clips
    frames += other.frames
    steps += other.steps
    cachedSteps += other.cachedSteps
    peakBytes = max(peakBytes, other.peakBytes)
  }
}
