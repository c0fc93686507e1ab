import ArgumentParser
import DiffusionLayers
import DiffusionPipelines
import DiffusionTraining

/// Measures how an adapter's motion grows with its strength, and straightens it.
struct LoRACalibrate: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "calibrate",
    abstract: "Measure how the motion of a lion adapter grows with its strength, and store the table that "
      + "makes it a straight line.",
    discussion: """
      Example: videolora lora calibrate pan.safetensors --model MODEL --motion pan_left --prompts prompts.json
      Makes clips without the adapter and at every strength, and measures their motion. Amplitudes are in units of \
      full scale: a quarter of the height, log-zoom 0.35, or 0.35 rad over the clip.
      """)

  @Argument(help: "The adapter, trained by `train lion`.")
  var path: String

  @OptionGroup var model: ModelOptions
  @OptionGroup var sampler: SamplerOptions
  @OptionGroup var size: SizeOptions

  @Option(help: "What is measured: \(MotionMeasure.names.joined(separator: ", ")).")
  var motion: String

  @Option(
    help: ArgumentHelp(
      "JSON list of {\"caption\": [words], \"noise_seed\": n}, a clip each.", valueName: "file"))
  var prompts: String?

  @Option(
    help: ArgumentHelp("Clips at every strength (0 = 16, or all that --prompts names).", valueName: "n"))
  var clips = 0

  @Option(help: ArgumentHelp("Strengths to measure.", valueName: "n"))
  var points = 11

  @Option(
    help: ArgumentHelp(
      "Motion that strength 1 is to have, where the adapter can (default: 1 for camera moves, what --moves makes at "
        + "amplitude 1; else what the end of the trained range reaches).", valueName: "amplitude"))
  var full: Double?

  @Option(help: ArgumentHelp("The file to write (default: the adapter itself).", valueName: "file"))
  var output: String?

  @Flag(help: "Print the result as JSON.")
  var json = false

  func validate() throws {
    guard (2...101).contains(points) else { throw ValidationError("--points must lie in 2…101.") }
    guard (0...10_000).contains(clips) else { throw ValidationError("--clips must lie in 0…10000.") }
    guard full.map({ $0 > 0 && $0 <= 10 }) ?? true else {
      throw ValidationError("--full must lie above 0, up to 10.")
    }
    guard MotionMeasure(motion) != nil else {
      throw ValidationError("--motion must be one of \(MotionMeasure.names.joined(separator: ", ")).")
    }
  }

  func run() throws {
    guard let measure = MotionMeasure(motion) else { return }
    let cancellation = Interrupt.install()
    let progress = ProgressLine()
    let file = try LoRAFile(path: path)
    let requests = try requests()
    let twoEnded = (try file.header()?.strengthRange?.lowerBound ?? 0) != 0
    guard full == nil || !twoEnded else {
      throw CLIError(
        "--full is for adapters whose strengths start at 0, and '\(path)' has a range of two ends")
    }
    let full = full.map(Float.init) ?? (measure == .object || twoEnded ? nil : 1)
    let model = try model.load([AdapterRequest(path: path)], cancellation: cancellation, progress: progress)
    let found = try StrengthCalibration.measure(
      model, measure,
      clips: StrengthCalibration.Clips(
        settings: sampler.settings, captions: requests.map(\.caption), seeds: requests.map(\.noiseSeed),
        size: size.resolved(model.info)),
      points: points, full: full, monitor: RunMonitor(cancellation: cancellation)
    ) { progress.show("clip \($0)/\($1)", fraction: Double($0) / Double($1)) }
    progress.clear()
    guard let table = found.table else {
      throw CLIError(
        "the motion '\(motion)' of '\(path)' does not grow with its strength: \(found.rest) without it, "
          + "\(found.amplitudes.map { fixed(Double($0), 3) }.joined(separator: " ")); train it longer")
    }
    var header = try file.header() ?? AdapterHeader()
    header.strengthRange = found.range
    header.calibration = table
    try LoRAWriter.write(file, header: header, path: output ?? path)
    show(found, table)
  }

  /// The clips at each strength.
  private func requests() throws -> [ClipRequest] {
    guard let prompts else {
      return (0..<(clips > 0 ? clips : 16)).map {
        ClipRequest(caption: nil, noiseSeed: sampler.seed &+ UInt64($0), label: [:])
      }
    }
    let all = try PromptFile.read(prompts)
    guard clips <= all.count else {
      throw CLIError("--clips \(clips) asks for more than the \(all.count) of --prompts '\(prompts)'")
    }
    return clips > 0 ? Array(all.prefix(clips)) : all
  }

  private func show(_ found: StrengthCalibration, _ table: [Float]) {
    if json {
      let numbers = { (list: [Float]) in JSONValue.array(list.map { .number(Double($0)) }) }
      print(
        JSONValue.object([
          "motion": .string(motion), "rest": .number(Double(found.rest)), "s": numbers(found.positions),
          "amplitude": numbers(found.amplitudes + found.beyond), "calibration": numbers(table),
        ]))
      return
    }
    var text = TextTable("s", "amplitude", "strength", "s for it")
    for (index, s) in found.positions.enumerated() {
      let amplitude = fixed(Double((found.amplitudes + found.beyond)[index]), 3)
      let strength = table.indices.contains(index) ? fixed(Double(s), 2) : ""
      text.add(
        fixed(Double(s), 2), amplitude, strength,
        table.indices.contains(index) ? fixed(Double(table[index]), 3) : "")
    }
    print("amplitude without it \(fixed(Double(found.rest), 3))\n\(text.text)\nwritten to \(output ?? path)")
  }
}
