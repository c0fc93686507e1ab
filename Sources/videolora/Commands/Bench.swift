import ArgumentParser
import DiffusionLayers
import DiffusionPipelines
import Glibc
import TensorCore

/// Times a model's parts on this machine.
struct Bench: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Time a model: best and median seconds, GFLOP/s and the share of this machine's own ceiling.",
    discussion: "Example: videolora bench --model builtin:nano --workload step --repeat 5")

  @OptionGroup var model: ModelOptions
  @OptionGroup var adapters: AdapterOptions

  @Option(help: "What is timed: one denoiser call, a whole clip, or a half of the autoencoder.")
  var workload = ModelBenchmark.Workload.step

  @Option(help: "Frames of a clip (0 = the model's).")
  var frames = 0

  @OptionGroup var size: SizeOptions

  @Option(help: "Denoising steps of a clip (0 = the model's).")
  var steps = 0

  @Option(help: "First-block cache of a clip (0 = off).")
  var cacheThreshold: Float = 0

  @Option(name: .customLong("repeat"), help: "Timed runs after one warm-up.")
  var repeats = 3

  @Flag(help: "Print the result as JSON.")
  var json = false

  func validate() throws {
    guard (1...100_000).contains(repeats) else { throw ValidationError("--repeat must lie in 1…100000.") }
    guard (0...1024).contains(frames) else { throw ValidationError("--frames must lie in 0…1024.") }
    guard (0...10000).contains(steps) else { throw ValidationError("--steps must lie in 0…10000.") }
  }

  func run() throws {
    EngineThreads.request(model.threads)
    let result = try ModelBenchmark.run(
      model.model, options: model.loadOptions,
      workload: workload, frames: frames, width: size.width, height: size.height,
      settings: SamplerSettings(steps: steps, cacheThreshold: cacheThreshold),
      adapters: zip(adapters.requests, adapters.adapters).map { ($0, $1.curve.value(at: 0)) },
      repeats: repeats)
    if json {
      print(value(result))
    } else {
      show(result)
    }
  }

  private func show(_ result: ModelBenchmark.Result) {
    print(
      "\(model.model), \(result.frames) frames \(result.width)x\(result.height), \(result.precision), "
        + "\(result.threads) threads, \(SIMDLevel.current)")
    var table = TextTable(
      "workload", "best s", "median s", "GFLOP", "GFLOP/s", "ceiling", "share", "peak RSS", "load s")
    table.add(
      result.workload, fixed(result.bestSeconds, 4), fixed(result.medianSeconds, 4), fixed(result.gflop, 2),
      fixed(result.gflops, 1), fixed(result.ceilingGflops, 1),
      fixed(100 * result.gflops / result.ceilingGflops, 0) + " %", mebibytes(Self.peakRSS),
      fixed(result.loadSeconds, 2))
    print(table.text)
  }

  private func value(_ result: ModelBenchmark.Result) -> JSONValue {
    .object([
      "model": .string(model.model), "workload": .string(result.workload),
      "precision": .string(result.precision),
      "adapters": .integer(adapters.requests.count), "threads": .integer(result.threads),
      "simd": .string("\(SIMDLevel.current)"),
      "frames": .integer(result.frames), "width": .integer(result.width), "height": .integer(result.height),
      "best_s": .number(result.bestSeconds), "median_s": .number(result.medianSeconds),
      "gflop": .number(result.gflop), "gflops": .number(result.gflops),
      "ceiling_gflops": .number(result.ceilingGflops), "peak_rss_bytes": .integer(Self.peakRSS),
      "peak_tensor_bytes": .integer(result.peakTensorBytes), "load_s": .number(result.loadSeconds),
    ])
  }

  /// The most memory this process had.
  static var peakRSS: Int {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return usage.ru_maxrss * 1024
  }
}
