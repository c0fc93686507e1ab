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

  /// The function of `from`, written to `to`; the two may be one.
  func apply(_ to: UnsafeMutablePointer<Float>, _ from: UnsafePointer<Float>, _ count: Int) {
    switch self {
    case .identity: if UnsafePointer(to) != from { to.update(from: from, count: count) }
    case .relu: kernels.relu(to, from, count)
    case .silu: kernels.silu(to, from, count)
    case .geluTanh: kernels.gelu_tanh(to, from, count)
    }
  }

  /// `gradient * f'(x)`, written to `to`.
  func applyGradient(
    _ to: UnsafeMutablePointer<Float>, _ x: UnsafePointer<Float>, _ gradient: UnsafePointer<Float>,
    _ count: Int
  ) {
    switch self {
    case .identity: to.update(from: gradient, count: count)
    case .relu: kernels.gradient.relu(to, x, gradient, count)
    case .silu: kernels.gradient.silu(to, x, gradient, count)
    case .geluTanh: kernels.gradient.gelu_tanh(to, x, gradient, count)
    }
  }
}

extension Tensor {
  /// `max(x, 0)`.
  public func relu() -> Tensor {
    mapRecorded({ kernels.relu($0, $1, $2) }, gradient: { kernels.gradient.relu($0, $1, $2, $3) })
  }

  /// `x * sigmoid(x)`.
  public func silu() -> Tensor {
    mapRecorded({ kernels.silu($0, $1, $2) }, gradient: { kernels.gradient.silu($0, $1, $2, $3) })
  }

  /// GELU in the tanh approximation (torch's `approximate="tanh"`).
  public func geluTanh() -> Tensor {
    mapRecorded({ kernels.gelu_tanh($0, $1, $2) }, gradient: { kernels.gradient.gelu_tanh($0, $1, $2, $3) })
  }

  /// `tanh(x / bound) * bound`.
  public func softClamped(_ bound: Float) -> Tensor {
    mapRecorded(
      { kernels.soft_clamp($0, $1, bound, $2) },
      gradient: { kernels.gradient.soft_clamp($0, $1, $2, bound, $3) })
  }

  /// Values below `low` become `low`, those above `high` become `high`; NaN stays NaN.
  public func clamped(_ low: Float, _ high: Float) -> Tensor {
    requireNoTape("clamped")
    return map { to, from, count in
      for index in 0..<count { to[index] = min(max(from[index], low), high) }
    }
  }
}
