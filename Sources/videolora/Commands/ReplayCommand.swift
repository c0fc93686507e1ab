import ArgumentParser
import DiffusionLayers
import DiffusionPipelines
import TensorCore

/// Runs the cases of a golden file through the engine.
struct ReplayCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "replay",
    abstract: "Run every case of a golden file whose inputs are there, and write the engine's own outputs.",
    discussion:
      "Example: videolora replay --model MODELS/wan --golden wan-seed0.safetensors --output out.safetensors")

  @Option(help: "Model directory that made the golden; scheduler cases need none.")
  var model: String?

  @Option(help: "Golden file (<case>.in.<x>, <case>.out.<x>); the .json beside it says what each case is.")
  var golden: String

  @Option(help: "Folder of the adapter files that cases name (default: the golden's folder).")
  var loras: String?

  @Option(help: "Arithmetic of the denoiser; auto is f32, which made the golden.")
  var precision = Precision.auto

  @Option(help: ArgumentHelp("Threads of the engine (0 = all cores).", valueName: "n"))
  var threads = 0

  @Option(help: "The .safetensors file to write (<case>.out.<x>).")
  var output: String

  @Flag(help: "Print the result as JSON.")
  var json = false

  func validate() throws {
    guard output.hasSuffix(".safetensors") else {
      throw ValidationError("--output must end in .safetensors.")
    }
    guard (0...1024).contains(threads) else { throw ValidationError("--threads must lie in 0…1024.") }
  }

  func run() throws {
    EngineThreads.request(threads)
    let outcome = try Replay.run(
      model: model, golden: golden, loras: loras, output: output, precision: precision
    ) {
      line in
      if !json { print(line) }
    }
    if json {
      print(
        JSONValue.object([
          "output": .string(output), "done": .array(outcome.done.map { .string($0) }),
          "skipped": .array(outcome.skipped.map { .string($0) }),
        ]))
    } else {
      print("\(output): \(outcome.done.count) cases done, \(outcome.skipped.count) skipped")
    }
  }
}
