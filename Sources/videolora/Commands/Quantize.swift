import ArgumentParser
import DiffusionLayers
import DiffusionPipelines
import TensorCore

/// Makes a model with 8-bit weights.
struct Quantize: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Write a model directory whose denoiser holds 8-bit integers, loadable at once.",
    discussion: """
      The matrices of the attentions and feed-forwards become integers with a scale per output channel; the other \
      tensors and components stay as they are. Loading the result needs no option.
      Example: videolora quantize --model MODELS/wan --output MODELS/wan-int8
      """)

  @Option(help: "Model directory in diffusers' layout, or a builtin name.")
  var model: String

  @Option(help: "The directory to make; it must not exist.")
  var output: String

  @Option(help: ArgumentHelp("Threads of the engine (0 = all cores).", valueName: "n"))
  var threads = 0

  @Flag(help: "Print the result as JSON.")
  var json = false

  func validate() throws {
    guard (0...1024).contains(threads) else { throw ValidationError("--threads must lie in 0…1024.") }
  }

  func run() throws {
    EngineThreads.request(threads)
    let cancellation = Interrupt.install()
    let progress = ProgressLine()
    let summary: ModelQuantizer.Summary
    do {
      defer { progress.clear() }
      summary = try ModelQuantizer.run(model, output: output, cancellation: cancellation) {
        progress.show("quantise", fraction: $0)
      }
    }
    if json {
      print(
        JSONValue.object([
          "output": .string(output), "matrices": .integer(summary.matrices),
          "tensors": .integer(summary.tensors),
          "bytes_before": .integer(Int(summary.bytesBefore)),
          "bytes_after": .integer(Int(summary.bytesAfter)),
        ]))
      return
    }
    print(
      "\(output): \(summary.matrices) of \(summary.tensors) tensors as 8-bit integers, denoiser "
        + "\(mebibytes(Int(summary.bytesBefore))) -> \(mebibytes(Int(summary.bytesAfter)))")
  }
}
