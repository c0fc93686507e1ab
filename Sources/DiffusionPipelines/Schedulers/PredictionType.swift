import TensorCore

/// What a model's output means, for a sample `x = α x₀ + σ ε`.
public enum PredictionType: String, Sendable, CaseIterable {
  /// The noise `ε`.
  case epsilon
  /// The clean sample `x₀`.
  case sample
  /// `α ε - σ x₀` (Salimans and Ho, "Progressive Distillation", 2022).
  case vPrediction = "v_prediction"
  /// `ε - x₀`, for `α = 1 - σ`.
  case flowPrediction = "flow_prediction"

  /// The clean sample that an output stands for.
  func clean(_ x: Tensor, _ output: Tensor, alpha: Float, sigma: Float) -> Tensor {
    switch self {
    case .epsilon: x.adding(output, scaledBy: -sigma) * (1 / alpha)
    case .sample: output
    case .vPrediction: (x * alpha).adding(output, scaledBy: -sigma)
    case .flowPrediction: x.adding(output, scaledBy: -sigma)
    }
  }

  /// The noise that an output stands for.
  func noise(_ x: Tensor, _ output: Tensor, alpha: Float, sigma: Float) -> Tensor {
    switch self {
    case .epsilon: output
    case .sample: x.adding(output, scaledBy: -alpha) * (1 / sigma)
    case .vPrediction: (output * alpha).adding(x, scaledBy: sigma)
    case .flowPrediction: x.adding(output, scaledBy: alpha)
    }
  }
}
