public import TensorCore

/// A two-dimensional convolution over pictures `[N, H, W, C]`, plus the updates of the adapters that target it.
public struct Conv2D: Sendable {
  let kernel: ConvolutionKernel
  let stride: Int
  let padding: Int
  let adapters: [ConvolutionUpdate]

  /// Reads `weight` `[out, in, kernel, kernel]` and, with `bias`, `bias` `[out]`.
  public init(
    _ weights: Weights, _ inputs: Int, _ outputs: Int, kernel: Int = 3, stride: Int = 1, padding: Int = 1,
    bias: Bool = true
  ) throws(WeightsError) {
    self.kernel = try weights.filters(
      [outputs, inputs, kernel, kernel], bias: bias, stride: stride)
    self.stride = stride
    self.padding = padding
    adapters = weights.adapters.map { ConvolutionUpdate($0, extents: [outputs, inputs, kernel, kernel]) }
  }

  /// `activation(conv(x) (+ skip))`, without adapters.
  public func callAsFunction(
    _ x: Tensor, activation: ConvolutionActivation = .identity, adding skip: Tensor? = nil,
    cancellation: Cancellation? = nil
  ) -> Tensor {
    Tensor.convolution(
      x, kernel: kernel, stride: stride, padding: padding, activation: activation, adding: skip,
      cancellation: cancellation)
  }

  /// `conv(x) (+ skip)` with the adapters' updates; `x` are frames in the order of the run's strengths, clip by clip.
  public func callAsFunction(_ x: Tensor, adding skip: Tensor? = nil, _ run: RunContext) -> Tensor {
    let result = self(x, adding: skip, cancellation: run.cancellation)
    return adapters.reduce(result) { $1.add(to: $0, x, stride: stride, padding: padding, run) }
  }

  /// The convolution of pictures of twice the height and width, made by repeating pixels; for filters of 3 by
  /// 3 with a stride and a padding of 1.
  public func upsampling(_ x: Tensor, cancellation: Cancellation? = nil) -> Tensor {
    precondition(stride == 1 && padding == 1, "upsampling with a stride of \(stride)")
    return Tensor.upsampledConvolution(x, kernel: kernel, cancellation: cancellation)
  }

  /// The same for pictures of another height and width, with the adapters' updates.
  public func upsampling(_ x: Tensor, height: Int, width: Int, _ run: RunContext) -> Tensor {
    let isDouble = height == 2 * x.shape[1] && width == 2 * x.shape[2]
    if isDouble && adapters.isEmpty { return upsampling(x, cancellation: run.cancellation) }
    return self(x.resizedNearest(height: height, width: width), run)
  }
}
