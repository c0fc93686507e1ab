import TensorCore

/// One thing that is timed.
struct Case {
  /// What bounds it, measured on this machine in the same run.
  enum Bound {
    /// Arithmetic: a large f32 matrix product through the engine.
    case arithmetic
    /// Memory: one pass over an array that no cache holds. The bytes that have to move at least.
    case memory(bytes: Int)
  }

  let group: String
  let name: String
  let bound: Bound
  let body: () throws -> Void

  init(_ group: String, _ name: String, _ bound: Bound = .arithmetic, _ body: @escaping () throws -> Void) {
    (self.group, self.name, self.bound, self.body) = (group, name, bound, body)
  }
}

/// What came of it.
struct Measurement {
  let group: String
  let name: String
  let seconds: Double
  let median: Double
  /// 1e9 operations or bytes a second, in `unit`.
  let rate: Double
  let ceiling: Double
  let unit: String
}

/// The machine's own limits, each measured once.
struct Ceilings {
  let gflops: Double
  let gigabytes: Double

  init() {
    gflops = MachineCeiling.gflops()
    let big = Tensor(repeating: 1, shape: [64 << 20])
    let seconds = timings(of: 5) { _ = big.affine(1, 0) }.first ?? 1
    gigabytes = Double(2 * 4 * big.count) / seconds / 1e9
  }

  /// Times a case: one warm-up that also counts its arithmetic, then `repeats` runs.
  func measure(_ item: Case, repeats: Int) throws -> Measurement {
    FlopCounter.start()
    try item.body()
    let operations = FlopCounter.stop()
    let seconds = try timings(of: repeats, item.body)
    let (amount, ceiling, unit) =
      switch item.bound {
      case .arithmetic: (operations, gflops, "GFLOP/s")
      case .memory(let bytes): (Double(bytes), gigabytes, "GB/s")
      }
    return Measurement(
      group: item.group, name: item.name, seconds: seconds[0], median: seconds[seconds.count / 2],
      rate: amount / seconds[0] / 1e9, ceiling: ceiling, unit: unit)
  }
}

/// Seconds of `count` runs, the shortest first.
private func timings(of count: Int, _ body: () throws -> Void) rethrows -> [Double] {
  let clock = ContinuousClock()
  return try (0..<max(1, count)).map { _ in
    let (seconds, attoseconds) = try clock.measure(body).components
    return Double(seconds) + Double(attoseconds) * 1e-18
  }.sorted()
}
