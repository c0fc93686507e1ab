import Glibc
public import TensorCore

/// Sinusoidal embedding of timesteps: `[cos(t f), sin(t f)]` with `f` from 1 down to 1/10000 (diffusers'
/// `Timesteps` with `flip_sin_to_cos`, no frequency shift).
public func timestepEmbedding(_ timesteps: [Float], channels: Int) -> Tensor {
  let half = channels / 2
  return Tensor(shape: [timesteps.count, channels]) { values in
    for (row, timestep) in timesteps.enumerated() {
      for i in 0..<half {
        let angle = timestep * expf(-logf(10000) * Float(i) / Float(half))
        values[row * channels + i] = cosf(angle)
        values[row * channels + half + i] = sinf(angle)
      }
    }
  }
}

/// Two linear layers around a SiLU (diffusers' `TimestepEmbedding`).
public struct TimestepEmbedding: Sendable {
  let linear1: Linear
  let linear2: Linear

  /// Reads `linear_1` and `linear_2`.
  public init(_ weights: Weights, _ inputs: Int, _ dim: Int) throws(WeightsError) {
    linear1 = try Linear(weights["linear_1"], inputs, dim)
    linear2 = try Linear(weights["linear_2"], dim, dim)
  }

  public func callAsFunction(_ x: Tensor, _ run: RunContext) -> Tensor {
    linear2(linear1(x, run, activation: .silu), run)
  }
}
