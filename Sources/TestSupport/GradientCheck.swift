public import TensorCore

/// Compares recorded gradients with central differences.
public enum GradientCheck {
  /// - Parameter function: from leaves to a scalar of shape `[1]`.
  /// - Returns: for every leaf the difference between its gradient and the finite differences.
  public static func differences(
    of leaves: [Tensor], step: Float = 1e-2, _ function: ([Tensor]) -> Tensor
  ) -> [Difference] {
    let trainable = leaves.map { $0.trainable() }
    let gradients = function(trainable).gradients(of: trainable)
    return leaves.indices.map { which in
      let values = leaves[which].array()
      var numeric = [Float](repeating: 0, count: values.count)
      for index in values.indices {
        func shifted(_ by: Float) -> Double {
          var changed = values
          changed[index] += by
          var inputs = leaves
          inputs[which] = Tensor(changed, shape: leaves[which].shape)
          return Double(function(inputs).array()[0])
        }
        numeric[index] = Float((shifted(step) - shifted(-step)) / Double(2 * step))
      }
      return Difference(gradients[which], Tensor(numeric, shape: leaves[which].shape))
    }
  }
}
