import CKernels

/// A pointwise function fused behind a linear layer or a convolution.
public enum Activation: Sendable {
  case identity, relu, silu, geluTanh

  func apply(_ values: UnsafeMutablePointer<Float>, _ count: Int) {
    switch self {
    case .identity: break
    case .relu: kernels.relu(values, values, count)
    case .silu: kernels.silu(values, values, count)
    case .geluTanh: kernels.gelu_tanh(values, values, count)
    }
  }
}

extension Tensor {
  /// `max(x, 0)`.
  public func relu() -> Tensor {
    requireNoTape("relu")
    return map { kernels.relu($0, $1, $2) }
  }

  /// `x * sigmoid(x)`.
  public func silu() -> Tensor {
    requireNoTape("silu")
    return map { kernels.silu($0, $1, $2) }
  }

  /// GELU in the tanh approximation (torch's `approximate="tanh"`).
  public func geluTanh() -> Tensor {
    requireNoTape("geluTanh")
    return map { kernels.gelu_tanh($0, $1, $2) }
  }

  /// `tanh(x / bound) * bound`.
  public func softClamped(_ bound: Float) -> Tensor {
    requireNoTape("softClamped")
    return map { kernels.soft_clamp($0, $1, bound, $2) }
  }

  /// Values below `low` become `low`, those above `high` become `high`; NaN stays NaN.
  public func clamped(_ low: Float, _ high: Float) -> Tensor {
    requireNoTape("clamped")
    return map { to, from, count in
      for index in 0..<count { to[index] = min(max(from[index], low), high) }
    }
  }
}
