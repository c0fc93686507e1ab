extension Tensor {
  /// `activation(x · weightᵀ + bias)`: `x` is `[…, in]`, `weight` `[out, in]`, `bias` `[out]`.
  ///
  /// Gradients reach `x`, `weight` and `bias` (the latter two only when they are recorded).
  public static func linear(
    _ x: Tensor, weight: Tensor, bias: Tensor? = nil, activation: Activation = .identity
  ) -> Tensor {
    precondition(
      weight.rank == 2 && x.shape.last == weight.shape[1], "linear of \(x.shape) with weight \(weight.shape)")
    precondition(
      bias == nil || bias?.shape == [weight.shape[0]], "bias \(bias?.shape ?? []) of \(weight.shape)")
    if x.isRecorded || weight.isRecorded || bias?.isRecorded == true {
      return linearRecorded(x, weight: weight, bias: bias, activation: activation)
    }
    return linear(x, weight: Weight(weight), bias: bias, activation: activation)
  }
}
