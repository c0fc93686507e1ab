import ArgumentParser
import DiffusionLayers
import DiffusionPipelines
import TensorCore

/// Converts a torch pickle to safetensors.
struct Import: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Convert a PyTorch file (.ckpt, .pth, .pt, .bin) to .safetensors, without running any of it.",
    discussion: """
      Reads tensors, dicts, numbers and strings; a file that refers to anything else is refused. Wrappers named \
      state_dict, model or module are taken off, and a leading 'module.' that all names share. Numbers and strings \
      become metadata; what safetensors cannot hold is listed. dtypes stay as they are.
      Example: videolora import motion.ckpt --output motion.safetensors
      """)

  @Argument(help: "The file that torch.save wrote.")
  var path: String

  @Option(help: "The .safetensors file to write.")
  var output: String

  @Flag(help: "Print the result as JSON.")
  var json = false

  func validate() throws {
    guard output.hasSuffix(".safetensors") else {
      throw ValidationError("--output must end in .safetensors.")
    }
  }

  func run() throws {
    let cancellation = Interrupt.install()
    let checkpoint = try TorchCheckpoint(path: path)
    let progress = ProgressLine()
    let total = max(1, checkpoint.byteCount)
    do {
      defer { progress.clear() }
      try checkpoint.write(to: output) { done in
        try cancellation.check()
        progress.show("import", fraction: Double(done) / Double(total))
      }
    }
    if json {
      print(
        JSONValue.object([
          "output": .string(output), "tensors": .integer(checkpoint.entries.count),
          "bytes": .integer(checkpoint.byteCount),
          "metadata": .array(checkpoint.metadata.map { .string($0.0) }),
          "left_out": .array(checkpoint.leftOut.map { .string($0) }),
        ]))
      return
    }
    print("\(output): \(checkpoint.entries.count) tensors, \(checkpoint.byteCount) bytes")
    if !checkpoint.metadata.isEmpty {
      print("kept as metadata: \(checkpoint.metadata.map(\.0).joined(separator: ", "))")
    }
    if !checkpoint.leftOut.isEmpty {
      print("left out: \(checkpoint.leftOut.joined(separator: ", "))")
    }
  }
}
