public import TensorCore

/// A two-dimensional convolution over pictures `[N, H, W, C]`.
public struct Conv2D: Sendable {
  let kernel: ConvolutionKernel
  let stride: Int
  let padding: Int

  /// Reads `weight` `[out, in, kernel, kernel]` and, with `bias`, `bias` `[out]`.
  public init(
    _ weights: Weights, _ inputs: Int, _ outputs: Int, kernel: Int = 3, stride: Int = 1, padding: Int = 1,
    bias: Bool = true
  ) throws(WeightsError) {
    self.kernel = ConvolutionKernel(
      weight: try weights.tensor("weight", shape: [outputs, inputs, kernel, kernel]),
      bias: bias ? try weights.tensor("bias", shape: [outputs]) : nil, stride: stride)
    self.stride = stride
    self.padding = padding
  }

  /// `activation(conv(x) (+ skip))`.
  public func callAsFunction(
    _ x: Tensor, activation: ConvolutionActivation = .identity, adding skip: Tensor? = nil,
    cancellation: Cancellation? = nil
  ) -> Tensor {
    Tensor.convolution(
      x, kernel: kernel, stride: stride, padding: padding, activation: activation, adding: skip,
      cancellation: cancellation)
  }

  /// The convolution of pictures of twice the height and width, made by repeating pixels; for filters of 3 by
  /// 3 with a stride and a padding of 1.
  public func upsampling(_ x: Tensor, cancellation: Cancellation? = nil) -> Tensor {
    precondition(stride == 1 && padding == 1, "upsampling with a stride of \(stride)")
    return Tensor.upsampledConvolution(x, kernel: kernel, cancellation: cancellation)
  }
}
