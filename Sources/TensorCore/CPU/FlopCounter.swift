import Synchronization

/// Counts the arithmetic of matrix products, attentions and convolutions while it is on (2 per multiply-add).
public enum FlopCounter {
  private static let state = Mutex<Double?>(nil)
  private static let isOn = Atomic<Bool>(false)

  /// Starts counting from zero.
  public static func start() {
    state.withLock { $0 = 0 }
    isOn.store(true, ordering: .releasing)
  }

  /// Stops and returns the count.
  public static func stop() -> Double {
    isOn.store(false, ordering: .releasing)
    return state.withLock { value in
      defer { value = nil }
      return value ?? 0
    }
  }

  /// Notes one operation; costs one load while counting is off.
  static func add(_ operations: @autoclosure () -> Double) {
    guard isOn.load(ordering: .relaxed) else { return }
    let amount = operations()
    state.withLock { if let value = $0 { $0 = value + amount } }
  }
}

/// What this machine reaches on one large f32 matrix product with the engine's threads.
public enum MachineCeiling {
  /// GFLOP/s, best of five products of 1280 x 1536 x 1536.
  public static func gflops() -> Double {
    let (m, n, k) = (1280, 1536, 1536)
    let a = Tensor(repeating: 0.5, shape: [m, k])
    let b = Tensor(repeating: 0.25, shape: [n, k])
    var best = Double.infinity
    for _ in 0..<6 {
      let start = ContinuousClock.now
      _ = Tensor.linear(a, weight: b)
      let spent = ContinuousClock.now - start
      best = min(best, Double(spent.components.seconds) + Double(spent.components.attoseconds) * 1e-18)
    }
    return 2 * Double(m * n * k) / best / 1e9
  }
}
