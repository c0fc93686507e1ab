package import TensorCore

/// AdamW with bias correction and decoupled weight decay, step by step as torch's `optim.AdamW` computes it
/// (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019).
package struct AdamW: Sendable {
  package var betas = (0.9, 0.999)
  package var epsilon = 1e-8
  package var weightDecay = 0.01
  /// Steps taken.
  package var count = 0
  /// Moving averages of the gradients and of their squares, one per value.
  package var first: [Tensor]
  package var second: [Tensor]

  package init(for values: [Tensor]) {
    first = values.map { Tensor.zeros($0.shape) }
    second = first
  }

  /// Moves every value against its gradient.
  /// - Parameters:
  ///   - rates: a learning rate for each value.
  ///   - scale: of all gradients, from clipping.
  package mutating func step(
    _ values: inout [Tensor], gradients: [Tensor], rates: [Double], scale: Float = 1
  ) {
    count += 1
    let corrections = (1 - power(betas.0, count), 1 - power(betas.1, count))
    for index in values.indices {
      Tensor.adamW(
        &values[index], first: &first[index], second: &second[index], gradient: gradients[index],
        AdamWSettings(
          scale: scale, beta1: Float(betas.0), beta2: Float(betas.1),
          shrink: Float(1 - rates[index] * weightDecay), step: Float(rates[index] / corrections.0),
          rootCorrection: Float(corrections.1.squareRoot()), epsilon: Float(epsilon)))
    }
  }

  private func power(_ base: Double, _ exponent: Int) -> Double {
    var (result, factor, rest) = (1.0, base, exponent)
    while rest > 0 {
      if rest & 1 == 1 { result *= factor }
      factor *= factor
      rest >>= 1
    }
    return result
  }
}

/// Clipping of gradients by their common norm (torch's `clip_grad_norm_`).
package enum GradientNorm {
  /// The Euclidean norm of all gradients together.
  package static func of(_ gradients: [Tensor]) -> Double {
    gradients.reduce(0.0) { $0 + $1.sumOfSquares }.squareRoot()
  }

  /// The factor that brings the norm down to `limit`; 1 where it is below, or there is no limit.
  package static func scale(_ norm: Double, limit: Double) -> Float {
    limit > 0 ? Float(min(1, limit / (norm + 1e-6))) : 1
  }
}
