import DiffusionPipelines

/// Whole workloads through the same code as `videolora bench`.
enum Workloads {
  static func measure(
    _ model: String, frames: Int, width: Int, height: Int, repeats: Int
  ) throws -> [Measurement] {
    try ModelBenchmark.Workload.allCases.compactMap { workload in
      // A tag model has no encoder worth timing and does not know the words, others may be without one.
      if workload == .text { return nil }
      let result = try ModelBenchmark.run(
        model, workload: workload, frames: frames, width: width, height: height, repeats: repeats)
      return Measurement(
        group: "workload",
        name: "\(model) \(workload.rawValue), \(result.frames) frames \(result.width)x\(result.height)",
        seconds: result.bestSeconds, median: result.medianSeconds, rate: result.gflops,
        ceiling: result.ceilingGflops, unit: "GFLOP/s")
    }
  }
}
