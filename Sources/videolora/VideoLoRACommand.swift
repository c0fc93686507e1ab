import ArgumentParser
import DiffusionPipelines
import Glibc
import TensorCore

/// The command line: thin wrappers around the functions that the GStreamer elements call too.
struct VideoLoRACommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "videolora",
    abstract: "Video diffusion with LoRA adapters: generate, transform, look into files, measure.",
    discussion: """
      Exit codes: 0 done; 1 failed, one line on stderr says what, where and the remedy; 2 wrong usage. Outputs \
      appear whole or not at all.
      """,
    version: Version.current,
    subcommands: [
      Doctor.self, Inspect.self, Import.self, Generate.self, Transform.self, LoRACommand.self,
      Train.self, ReplayCommand.self, Bench.self, Quantize.self,
    ])
}

enum Version {
  static let current = "0.1.0"
}

@main
enum Main {
  static func main() {
    do {
      var command = try VideoLoRACommand.parseAsRoot()
      try command.run()
    } catch {
      finish(error)
    }
  }

  /// Ends the process: help and versions go to stdout, wrong usage is 2, any other failure is one line and 1.
  private static func finish(_ error: any Error) -> Never {
    switch VideoLoRACommand.exitCode(for: error) {
    case .success:
      print(VideoLoRACommand.fullMessage(for: error))
      exit(0)
    case .validationFailure:
      Console.error(VideoLoRACommand.fullMessage(for: error))
      exit(2)
    default:
      if let code = error as? ExitCode { exit(code.rawValue) }
      let text = error is Cancelled ? "interrupted; nothing was written" : "\(error)"
      Console.error("videolora: " + text.split(separator: "\n").joined(separator: " "))
      exit(1)
    }
  }
}
