public import TensorCore

/// Runs `body` with the kernels of every level that this CPU has, one after the other, and goes back to the one before.
public func atEveryLevel(_ body: (SIMDLevel) throws -> Void) rethrows {
  let before = SIMDLevel.current
  defer { SIMDLevel.limit(before) }
  for level in SIMDLevel.allCases where level.rawValue <= before.rawValue {
    SIMDLevel.limit(level)
    try body(level)
  }
}
