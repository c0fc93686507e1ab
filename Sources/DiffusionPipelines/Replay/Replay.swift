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
  ///   - precision: arithmetic of the denoiser; `auto` is f32, which made the golden.
  /// - Throws: `WeightsError`, `ConfigError`, `LoRAError` or `PipelineError`.
  public static func run(
    model: String?, golden: String, loras: String?, output: String, precision: Precision = .f32,
    log: (String) -> Void = { _ in }
  ) throws -> Outcome {
    let file = try SafetensorsFile(path: golden)
    let cases = try readCases(golden)
    let folder = golden.lastIndex(of: "/").map { String(golden[..<$0]) } ?? "."
    let replayer = CaseReplayer(
      file: file, cases: cases, model: try model.map { try ReplayModel($0, precision) },
      loras: loras ?? folder)
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
