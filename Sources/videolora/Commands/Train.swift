import ArgumentParser
import DiffusionLayers
import DiffusionPipelines
import DiffusionTraining
import TensorCore

/// Trains an adapter.
struct Train: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Train a LoRA from a folder of clips.",
    discussion: """
      Example: videolora train lora --model MODEL --data CLIPS --output style.safetensors --steps 1000
      A checkpoint lies beside the output while it trains; ^C saves one too, and --resume goes on from it: the \
      result has the same bytes.
      """)

  @Argument(help: "Recipe: \(Self.names), or a .json file with its keys.")
  var recipe: String

  @OptionGroup var model: ModelOptions

  @Option(
    help: ArgumentHelp(
      "Folder of clips (.safetensors with frames uint8 [F, H, W, 3] and labels, .y4m, videos, folders of .png) or "
        + "photos, with .json or .txt labels beside them; or one file.", valueName: "dir"))
  var data: String?

  @Option(
    help: ArgumentHelp(
      "Make the clips from the data: a camera move over photos or still clips, its amplitude drawn from 0…1 "
        + "(motion-lora: AnimateDiff's windows, ±20 %), or 'pace', which plays long clips slower.",
      valueName: "move"))
  var moves: String?

  @Option(
    help: ArgumentHelp(
      "The clips of --data as they were before, by equal names: pairs for video to video (recipe restyle).",
      valueName: "dir"))
  var source: String?

  @Flag(help: "Take clips of different sizes.")
  var anySize = false

  @Option(help: ArgumentHelp("The adapter to write, .safetensors.", valueName: "file"))
  var output: String?

  @Option(help: "Naming scheme of the adapter; motion-lora is that of AnimateDiff's own files.")
  var naming = DialectArgument(.diffusers)

  @Option(help: "Steps.") var steps: Int?
  @Option(help: "Rank of the pairs.") var rank: Int?
  @Option(help: "Learning rate.") var lr: Double?
  @Option(help: "Samples of a step.") var batch: Int?
  @Option(help: "Seed of everything random.") var seed: Int?
  @Option(help: "Frames of a clip (0 = all).") var frames: Int?
  /// Of made clips and samples.
  @OptionGroup var size: SizeOptions

  @Option(
    name: .customLong("set"),
    help: ArgumentHelp("Any key of the recipe, the value as JSON; repeatable.", valueName: "KEY=VALUE"))
  var changes: [String] = []

  @Option(help: ArgumentHelp("How the adapter's numbers are stored: f32, bf16 or f16.", valueName: "type"))
  var dtype = "f32"

  @Flag(help: "Go on from the checkpoint beside the output.")
  var resume = false

  @Option(help: ArgumentHelp("Log of JSON lines, one per step.", valueName: "file"))
  var log: String?

  @Option(
    help: ArgumentHelp(
      "Precomputed embeddings (prompt_embeds, negative_prompt_embeds) in place of all captions.",
      valueName: "file"))
  var promptEmbeds: String?

  @Option(help: ArgumentHelp("Plot of the losses, .svg or .png.", valueName: "file"))
  var plot: String?

  @Option(help: ArgumentHelp("Generate a clip every so many steps (0 = never).", valueName: "n"))
  var sampleEvery = 0

  @Option(help: "Text of those clips; they lie beside the output as PNGs.")
  var samplePrompt = ""

  @Flag(help: "Print the recipe as it would be run and end.")
  var showRecipe = false

  @Flag(help: "Print the result as JSON.")
  var json = false

  private static let dtypes: [String: DType] = ["f32": .float32, "bf16": .bfloat16, "f16": .float16]
  private static let names = TrainingRecipe.named.keys.sorted().joined(separator: ", ")

  func validate() throws {
    if !showRecipe {
      guard data != nil else { throw ValidationError("--data is missing: a folder of clips.") }
      guard let output, output.hasSuffix(".safetensors") else {
        throw ValidationError("--output must name a .safetensors file.")
      }
    }
    if let plot, !plot.hasSuffix(".svg"), !plot.hasSuffix(".png") {
      throw ValidationError("--plot must end in .svg or .png.")
    }
    if let moves, moves != "pace", CameraMove(rawValue: moves) == nil {
      throw ValidationError(
        "--moves must be pace or one of \(CameraMove.allCases.map(\.rawValue).joined(separator: ", ")).")
    }
    guard Self.dtypes[dtype] != nil else { throw ValidationError("--dtype must be f32, bf16 or f16.") }
    guard source == nil || moves == nil else {
      throw ValidationError("--source goes with clips, not with --moves; leave one of them out.")
    }
    guard size.isModels || sampleEvery > 0 || moves.map({ $0 != "pace" }) == true else {
      throw ValidationError(
        "--width and --height are those of clips that a camera move or --sample-every makes; ask for one of them."
      )
    }
    guard (0...10_000_000).contains(sampleEvery) else {
      throw ValidationError("--sample-every must lie in 0…10000000.")
    }
  }

  func run() throws {
    let recipe = try resolvedRecipe()
    if showRecipe {
      print(JSONValue.object(recipe.json).serialized(pretty: true))
      return
    }
    guard let data, let output else { return }
    let cancellation = Interrupt.install()
    let progress = ProgressLine()
    var options = model
    // Gradients are taken in f32.
    if options.precision == .auto { options.precision = .f32 }
    let model = try options.load([], cancellation: cancellation, progress: progress)
    let clips = try clips(data, recipe, model.info)
    var settings = TrainingOptions()
    settings.resumes = resume
    settings.dtype = Self.dtypes[dtype] ?? .float32
    settings.log = log
    settings.naming = naming.dialect
    settings.promptEmbeds = promptEmbeds
    settings.cancellation = cancellation
    settings.progress = { report in
      let loss = fixed(Double(report.meanLoss), 4)
      let (speed, eta) = (fixed(report.stepsPerSecond, 2), fixed(report.etaSeconds, 0))
      progress.show(
        "step \(report.step)/\(report.steps)", fraction: Double(report.step) / Double(report.steps),
        note: "  loss \(loss)  \(speed) it/s  ETA \(eta) s")
    }
    settings.sampleEvery = sampleEvery
    if sampleEvery > 0 { settings.sample = sampler(output, cancellation) }
    let summary = try Training.run(model, data: clips, recipe: recipe, output: output, options: settings)
    progress.clear()
    try draw(summary)
    show(summary, output)
  }

  /// The clips of `--data`, or what `--moves` makes of them.
  private func clips(_ data: String, _ recipe: TrainingRecipe, _ info: ModelInfo) throws -> any TrainingData {
    let media = GStreamerDecoder()
    guard let moves else {
      let sizes = anySize ? ClipDataset.Sizes.any : .equal
      let clips = try ClipDataset(data, sizes: sizes, media: media)
      guard let source else { return try clips.cut(to: recipe.frames) }
      guard recipe.source.share > 0 || recipe.source.animated > 0 else {
        throw CLIError(
          "--source goes unused: the recipe's source.share is 0; take the recipe restyle, or --set "
            + "source={\"share\":0.8}")
      }
      return try clips.paired(with: ClipDataset(source, sizes: sizes, media: media)).cut(to: recipe.frames)
    }
    let frames = recipe.frames > 0 ? recipe.frames : info.clipLength
    guard let move = CameraMove(rawValue: moves) else {
      return try PacedClips(try ClipDataset(data, media: media), frames: frames)
    }
    let augmentation = CameraAugmentation(
      moves: [move], frames: frames, width: size.resolved(info).width, height: size.resolved(info).height,
      travel: recipe.method == "motion-lora"
        ? .table(CameraAugmentation.Amounts()) : .amplitudes(0...1, zeroShare: 0.1), sensorNoise: 1)
    return CameraClips(try ClipDataset(data, sizes: .any, media: media), augmentation)
  }

  /// The named recipe, or that of a file, with the options' changes.
  private func resolvedRecipe() throws -> TrainingRecipe {
    var result: TrainingRecipe
    if recipe.hasSuffix(".json") {
      let source = try ByteSource.open(recipe)
      guard source.count < 1 << 20,
        let object = try JSONValue.parse(try source.bytes(0..<source.count), file: recipe).object
      else { throw CLIError("'\(recipe)' is no recipe; --show-recipe prints one") }
      result = try TrainingRecipe().changed(by: object)
    } else {
      guard let named = TrainingRecipe.named[recipe] else {
        throw CLIError("there is no recipe '\(recipe)'; take \(Self.names) or a .json file")
      }
      result = named
    }
    var object = JSONObject()
    for change in changes {
      guard let equals = change.firstIndex(of: "="), equals != change.startIndex else {
        throw CLIError("--set \(change) must be KEY=VALUE")
      }
      let text = String(change[change.index(after: equals)...])
      object[String(change[..<equals])] = (try? JSONValue.parse(text)) ?? .string(text)
    }
    for (key, value) in [
      ("steps", steps), ("rank", rank), ("batch", batch), ("seed", seed), ("frames", frames),
    ] {
      if let value { object[key] = .integer(value) }
    }
    if let lr { object["lr"] = .number(lr) }
    return try result.changed(by: object)
  }

  /// Writes a clip of the model as it is beside the output.
  private func sampler(_ output: String, _ cancellation: Cancellation)
    -> @Sendable (VideoModel, Int) throws -> Void
  {
    let (prompt, size, stem) = (samplePrompt, size, String(output.dropLast(".safetensors".count)))
    return { model, step in
      var stages = StageSeconds()
      let info = model.info
      let frames = try TextToVideo.run(
        model, settings: SamplerSettings(prompt: prompt), frames: info.clipLength,
        width: size.resolved(info).width,
        height: size.resolved(info).height, monitor: RunMonitor(cancellation: cancellation), stages: &stages)
      let folder = "\(stem)-step\(step)"
      guard let sink = try ClipFormat(output: folder)?.open(folder, rate: FrameRate(8)) else { return }
      for frame in frames { try sink.append(frame) }
      try sink.endClip(["step": .integer(step)])
      try sink.finish()
    }
  }

  private func draw(_ summary: TrainingSummary) throws {
    guard let plot else { return }
    let picture = LossPlot(losses: summary.losses, heldOut: summary.heldOut)
    try AtomicFile.write(
      plot.hasSuffix(".svg") ? Array(picture.svg.utf8) : PNG.encode(picture.frame), to: plot)
  }

  private func show(_ summary: TrainingSummary, _ output: String) {
    let recent = summary.losses.suffix(50)
    let loss = Double(recent.reduce(0, +)) / Double(max(1, recent.count))
    let speed = Double(summary.stepsNow) / max(summary.seconds, 1e-9)
    if json {
      var object: JSONObject = [
        "output": .string(output), "steps": .integer(summary.steps), "layers": .integer(summary.layers),
        "parameters": .integer(summary.parameters), "loss": .number(loss),
        "seconds": .number(summary.seconds), "steps_per_second": .number(speed),
        "peak_rss_bytes": .integer(Bench.peakRSS),
      ]
      if let held = summary.heldOut.last { object["held_out_loss"] = .number(Double(held.loss)) }
      print(JSONValue.object(object))
    } else {
      let held = summary.heldOut.last.map { ", held out \(fixed(Double($0.loss), 4))" } ?? ""
      print(
        "\(output): \(summary.layers) layers, \(summary.parameters) parameters, loss \(fixed(loss, 4))\(held), "
          + "\(fixed(speed, 2)) it/s, \(mebibytes(Bench.peakRSS)) at most")
    }
  }
}
