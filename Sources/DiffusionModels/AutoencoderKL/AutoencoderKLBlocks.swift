import DiffusionLayers
import TensorCore

// Reference: diffusers, models/autoencoders/vae.py, models/resnet.py (ResnetBlock2D without a time embedding),
// models/attention_processor.py. Names of weights are those of its checkpoints. Pictures are `[1, H, W, C]`.

/// A convolution of 3 by 3 that can be interrupted.
struct KLConvolution: Sendable {
  private let kernel: ConvolutionKernel
  private let stride: Int
  private let padding: ConvolutionPadding

  var inputs: Int { kernel.inputs }
  var outputs: Int { kernel.outputs }

  /// Reads `weight` `[out, in, 3, 3]` and `bias` `[out]`.
  /// - Parameter halving: with a stride of 2, over pictures that are extended below and to the right.
  init(_ weights: Weights, _ inputs: Int, _ outputs: Int, halving: Bool = false) throws(WeightsError) {
    stride = halving ? 2 : 1
    padding = halving ? ConvolutionPadding(top: 0, bottom: 1, left: 0, right: 1) : ConvolutionPadding(1)
    kernel = try weights.filters([outputs, inputs, 3, 3], bias: true, stride: stride)
  }

  func callAsFunction(_ x: Tensor, adding skip: Tensor? = nil, _ run: RunContext) throws(Cancelled) -> Tensor
  {
    let result = Tensor.convolution(
      x, kernel: kernel, stride: stride, padding: padding, adding: skip, cancellation: run.cancellation)
    try run.checkpoint()
    return result
  }

  /// The convolution of the picture at twice its height and width.
  func upsampling(_ x: Tensor, _ run: RunContext) throws(Cancelled) -> Tensor {
    let result = Tensor.upsampledConvolution(x, kernel: kernel, cancellation: run.cancellation)
    try run.checkpoint()
    return result
  }

  /// Floats of scratch memory for a result of this extent.
  func scratchFloats(rows: Int, columns: Int) -> Int {
    EngineThreads.count * kernel.scratchFloats(rows: rows, columns: columns)
  }
}

/// `conv2(silu(norm2(conv1(silu(norm1(x)))))) + shortcut(x)` (`ResnetBlock2D`).
struct KLResidualBlock: Sendable {
  private let norm1: GroupNorm
  let conv1: KLConvolution
  private let norm2: GroupNorm
  let conv2: KLConvolution
  private let shortcut: PointwiseConvolution?

  init(_ weights: Weights, _ inputs: Int, _ outputs: Int, groups: Int) throws(WeightsError) {
    norm1 = try GroupNorm(weights["norm1"], groups: groups, inputs, eps: 1e-6)
    conv1 = try KLConvolution(weights["conv1"], inputs, outputs)
    norm2 = try GroupNorm(weights["norm2"], groups: groups, outputs, eps: 1e-6)
    conv2 = try KLConvolution(weights["conv2"], outputs, outputs)
    shortcut =
      inputs == outputs ? nil : try PointwiseConvolution(weights["conv_shortcut"], inputs, outputs, axes: 2)
  }

  func callAsFunction(_ x: Tensor, _ run: RunContext) throws(Cancelled) -> Tensor {
    var inner = try conv1(norm1(x, activation: .silu), run)
    // In place of the first result, which would stay beside the second otherwise.
    inner = norm2(inner, activation: .silu)
    return try conv2(inner, adding: shortcut?(x) ?? x, run)
  }
}

/// Self-attention with a single head over the pixels of a picture (`Attention` of the middle block).
struct KLAttentionBlock: Sendable {
  private let norm: GroupNorm
  private let toQ: PointwiseConvolution
  private let toK: PointwiseConvolution
  private let toV: PointwiseConvolution
  private let toOut: PointwiseConvolution
  let channels: Int

  init(_ weights: Weights, _ channels: Int, groups: Int) throws(WeightsError) {
    self.channels = channels
    norm = try GroupNorm(weights["group_norm"], groups: groups, channels, eps: 1e-6)
    toQ = try PointwiseConvolution(matrixOrKernel: weights["to_q"], channels, channels)
    toK = try PointwiseConvolution(matrixOrKernel: weights["to_k"], channels, channels)
    toV = try PointwiseConvolution(matrixOrKernel: weights["to_v"], channels, channels)
    toOut = try PointwiseConvolution(matrixOrKernel: weights["to_out"][0], channels, channels)
  }

  func callAsFunction(_ x: Tensor, _ run: RunContext) throws(Cancelled) -> Tensor {
    let normed = norm(x)
    let tokens = [1, x.shape[1] * x.shape[2], 1, channels]  // [1, L, 1, C]
    let (query, key, value) = (
      toQ(normed).reshaped(tokens), toK(normed).reshaped(tokens), toV(normed).reshaped(tokens)
    )
    try run.checkpoint()
    let mixed = Tensor.attention(query, key, value)
    try run.checkpoint()
    return x + toOut(mixed.reshaped(x.shape))
  }
}
