import DiffusionLayers
import TensorCore

/// A convolution of extent 1: a linear map of each pixel's channels.
struct PointwiseConvolution: Sendable {
  private let weight: Weight
  private let bias: Tensor

  /// Reads `weight` `[out, in]` with `axes` more extents of 1, and `bias` `[out]`.
  init(_ weights: Weights, _ inputs: Int, _ outputs: Int, axes: Int) throws(WeightsError) {
    weight = try weights.weight(
      "weight", shape: [outputs, inputs] + [Int](repeating: 1, count: axes)
    ).reshaped([outputs, inputs])
    bias = try weights.tensor("bias", shape: [outputs])
  }

  /// The same for checkpoints that hold either a matrix or a convolution of two axes.
  init(matrixOrKernel weights: Weights, _ inputs: Int, _ outputs: Int) throws(WeightsError) {
    try self.init(weights, inputs, outputs, axes: weights.shape(of: "weight")?.count == 4 ? 2 : 0)
  }

  func callAsFunction(_ x: Tensor) -> Tensor { Tensor.linear(x, weight: weight, bias: bias) }
}
