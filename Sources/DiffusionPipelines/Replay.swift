import DiffusionLayers
import DiffusionModels
import TensorCore

/// Runs the cases of a golden file (inputs and expected outputs of the reference implementation) through the
/// engine and writes the engine's own outputs under the same names, for a comparison tensor by tensor.
///
/// A golden is a safetensors file with `<case>.in.<x>` and `<case>.out.<x>`; a .json beside it says what each
/// case is.
public enum Replay {
  /// What became of a replay.
  public struct Outcome: Sendable, Equatable {
    /// Cases whose outputs were written.
    public var done: [String] = []
    /// Cases that the engine cannot run yet, with the reason.
    public var skipped: [String] = []
  }

  /// - Parameters:
  ///   - model: directory whose backbone made the golden; scheduler cases need none.
  ///   - golden: the golden file, with its .json beside it.
  ///   - loras: folder of the adapter files that cases name; nil takes the golden's own folder.
  ///   - output: the file to write.
  /// - Throws: `WeightsError`, `ConfigError`, `LoRAError` or `PipelineError`.
  public static func run(
    model: String?, golden: String, loras: String?, output: String, log: (String) -> Void = { _ in }
  ) throws -> Outcome {
    let file = try SafetensorsFile(path: golden)
    let cases = try readCases(golden)
    let folder = golden.lastIndex(of: "/").map { String(golden[..<$0]) } ?? "."
    let backbone = try model.map { path in
      try ModelLoader(path, options: LoadOptions(), cancellation: Cancellation(), progress: { _ in })
        .loadBackbone()
    }
    let replayer = CaseReplayer(file: file, cases: cases, backbone: backbone, loras: loras ?? folder)
    var writer = SafetensorsWriter(metadata: [("format", "pt")])
    var outcome = Outcome()
    for name in caseNames(file) {
      do {
        for (output, tensor) in try replayer.run(name) { writer.add("\(name).out.\(output)", tensor) }
        outcome.done.append(name)
        log("\(name): done")
      } catch let reason as SkippedCase {
        outcome.skipped.append("\(name): \(reason.why)")
        log("\(name): skipped, \(reason.why)")
      }
    }
    try writer.write(to: output)
    return outcome
  }

  private static func readCases(_ golden: String) throws -> JSONObject {
    let stem = golden.hasSuffix(".safetensors") ? String(golden.dropLast(".safetensors".count)) : golden
    let source = try ByteSource.open(stem + ".json")
    let json = try JSONValue.parse(try source.bytes(0..<source.count), file: stem + ".json")
    guard let object = json.object else {
      throw PipelineError.option(
        name: "golden", value: golden, reason: "has no JSON object in the .json beside it")
    }
    return object["cases"]?.object ?? object
  }

  /// Everything before `.out.`, in the file's order.
  private static func caseNames(_ file: SafetensorsFile) -> [String] {
    var seen: Set<String> = []
    return file.names.compactMap { name in
      name.firstRange(of: ".out.").map { String(name[..<$0.lowerBound]) }
    }.filter { seen.insert($0).inserted }
  }
}

/// Why a case is left out.
private struct SkippedCase: Error {
  let why: String
}

/// Runs single cases.
private struct CaseReplayer {
  let file: SafetensorsFile
  let cases: JSONObject
  let backbone: (config: WanConfig, source: ResidentSource)?
  let loras: String

  func run(_ name: String) throws -> [(String, Tensor)] {
    let details = cases[name]?.object ?? JSONObject()
    if name.hasPrefix("sched.") { return try scheduler(name, details) }
    if name.hasPrefix("forward") || name.hasPrefix("lora.") {
      let inputs = name.hasPrefix("lora.") ? "forward" : name
      let (model, context) = try adapted(details)
      let sample = try model(
        try input(inputs, "latents"), timesteps: try timesteps(inputs), context: try input(inputs, "embeds"),
        context)
      return [("sample", sample)]
    }
    if name.hasPrefix("t2v.") { return try textToVideo(name, details) }
    throw SkippedCase(why: "cases of this kind are not supported yet")
  }

  /// The backbone with the case's adapters at their scales.
  private func adapted(_ details: JSONObject) throws -> (WanTransformer, RunContext) {
    guard let backbone else { throw SkippedCase(why: "it needs a model") }
    var matches: [LoRAMatch] = []
    var strengths: [[Float]] = []
    for entry in details["adapters"]?.array ?? [] {
      guard let name = entry.array?.first?.string, let scale = entry.array?.last?.double else { continue }
      do {
        matches.append(try LoRAFile(path: "\(loras)/\(name)").match(against: backbone.source, strict: true))
      } catch {
        throw SkippedCase(why: "\(error)")
      }
      strengths.append([Float(scale)])
    }
    let source = AdaptedSource(backbone.source, adapters: matches)
    return (try WanTransformer(Weights(source), backbone.config), RunContext(strengths: strengths))
  }

  private func textToVideo(_ name: String, _ details: JSONObject) throws -> [(String, Tensor)] {
    let className = details["scheduler"]?.string ?? ""
    guard className == ModelScheduler.flowMatchEulerClass else {
      throw SkippedCase(why: "the scheduler \(className) is not supported yet")
    }
    let (model, context) = try adapted(details)
    let changed = details["changed"] ?? .object(JSONObject())
    let loop = DenoisingLoop(
      transformer: model, coordinatePlanes: false,
      scheduler: FlowMatchEuler(
        try FlowMatchEuler.Config(changed, file: name), steps: try details.int("steps")),
      conditioning: Conditioning(positive: try input(name, "embeds"), negative: try input(name, "negative")),
      guidanceScale: Float(try details.double("guidance")))
    var steps: [Tensor] = []
    let latents = try loop.run(try input(name, "latents"), context) { _, sample in steps.append(sample) }
    return [
      ("latents", latents),
      ("steps", Tensor.concatenated(steps.map { $0.reshaped([1] + $0.shape) }, axis: 0)),
    ]
  }

  private func scheduler(_ name: String, _ details: JSONObject) throws -> [(String, Tensor)] {
    let className = details["class"]?.string ?? ""
    guard className == ModelScheduler.flowMatchEulerClass else {
      throw SkippedCase(why: "the scheduler \(className) is not supported yet")
    }
    let config = try FlowMatchEuler.Config(details["config"] ?? .object(JSONObject()), file: name)
    let scheduler = FlowMatchEuler(config, steps: try details.int("steps"))
    let velocities = try input(name, "eps")
    var sample = try input(name, "sample")
    var previous: [Tensor] = []
    for index in 0..<scheduler.timesteps.count {
      sample = scheduler.step(index, sample: sample, velocity: velocities.select(0, index))
      previous.append(sample.reshaped([1] + sample.shape))
    }
    return [
      ("timesteps", Tensor(scheduler.timesteps, shape: [scheduler.timesteps.count])),
      ("sigmas", Tensor(scheduler.sigmas, shape: [scheduler.sigmas.count])),
      ("prev", Tensor.concatenated(previous, axis: 0)),
    ]
  }

  private func input(_ name: String, _ tensor: String) throws -> Tensor {
    try file.load("\(name).in.\(tensor)")
  }

  private func timesteps(_ name: String) throws -> [Float] {
    let tensor = "\(name).in.timestep"
    if file.entries[tensor]?.dtype == .int64 { return try file.integers(tensor).map(Float.init) }
    return try file.load(tensor).array()
  }
}
