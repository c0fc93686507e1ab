import DiffusionLayers
import Glibc
import TensorCore

/// `benchmarks [--only gemm|attention|convolution|norm|softmax|block|workload]… [--model M] [--repeat N] [--json]`
@main struct Main {
  private struct Usage: Error, CustomStringConvertible {
    let description: String
  }

  static func main() {
    do {
      try run()
    } catch {
      print("benchmarks: \(error)")
      exit(1)
    }
  }

  private static func run() throws {
    var (only, model, repeats, json): ([String], String, Int, Bool) = ([], "builtin:nano", 5, false)
    var (frames, width, height) = (0, 0, 0)
    var words = CommandLine.arguments.dropFirst()
    func number() throws -> Int {
      guard let value = words.popFirst().flatMap({ Int($0) }), value > 0 else {
        throw Usage(description: "a number above 0 is missing")
      }
      return value
    }
    while let word = words.popFirst() {
      switch word {
      case "--only": only.append(words.popFirst() ?? "")
      case "--model": model = words.popFirst() ?? ""
      case "--repeat": repeats = try number()
      case "--frames": frames = try number()
      case "--width": width = try number()
      case "--height": height = try number()
      case "--json": json = true
      default: throw Usage(description: "unknown option \(word)")
      }
    }
    func isWanted(_ group: String) -> Bool { only.isEmpty || only.contains(group) }

    let ceilings = Ceilings()
    var results = try (Kernels.cases() + (isWanted("block") ? Blocks.cases() : []))
      .filter { isWanted($0.group) }
      .map { try ceilings.measure($0, repeats: repeats) }
    if isWanted("workload") {
      results += try Workloads.measure(
        model, frames: frames, width: width, height: height, repeats: min(3, repeats))
    }
    if json {
      printJSON(results, ceilings)
    } else {
      printTable(results, ceilings)
    }
  }

  private static func printTable(_ results: [Measurement], _ ceilings: Ceilings) {
    print(
      "\(SIMDLevel.current), \(EngineThreads.count) threads; ceilings of this run: \(fixed(ceilings.gflops, 1)) "
        + "GFLOP/s (f32 matrix product), \(fixed(ceilings.gigabytes, 1)) GB/s (one pass over memory)\n")
    print("| group | what | best ms | median ms | rate | share of the ceiling |\n|---|---|---|---|---|---|")
    for result in results {
      print(
        "| \(result.group) | \(result.name) | \(fixed(1000 * result.seconds, 2)) | "
          + "\(fixed(1000 * result.median, 2)) | \(fixed(result.rate, 1)) \(result.unit) | "
          + "\(fixed(100 * result.rate / result.ceiling, 0)) % |")
    }
  }

  private static func printJSON(_ results: [Measurement], _ ceilings: Ceilings) {
    let list = results.map { result in
      JSONValue.object([
        "group": .string(result.group), "name": .string(result.name), "best_s": .number(result.seconds),
        "median_s": .number(result.median), "rate": .number(result.rate), "unit": .string(result.unit),
        "ceiling": .number(result.ceiling),
      ])
    }
    print(
      JSONValue.object([
        "simd": .string("\(SIMDLevel.current)"), "threads": .integer(EngineThreads.count),
        "ceiling_gflops": .number(ceilings.gflops), "ceiling_gbps": .number(ceilings.gigabytes),
        "results": .array(list),
      ]).serialized())
  }

  /// A number with so many decimals.
  private static func fixed(_ value: Double, _ decimals: Int) -> String {
    guard value.isFinite, abs(value) < 1e15 else { return "-" }
    let scale = (0..<decimals).reduce(1.0) { factor, _ in factor * 10 }
    let units = Int((value * scale).rounded())
    guard decimals > 0 else { return "\(units)" }
    let rest = String(units % Int(scale))
    return "\(units / Int(scale))." + String(repeating: "0", count: decimals - rest.count) + rest
  }
}
