import DiffusionLayers
import TensorCore

// Reference: diffusers, models/autoencoders/autoencoder_kl_wan.py. Names of weights are those of its
// checkpoints. All layers take one frame `[1, H, W, C]` at a time and keep what they need of earlier ones.

/// A convolution over time and space that sees the current frame and those before it (`WanCausalConv3d`).
struct WanCausalConv3d: Sendable {
  private let kernel: CausalConvolutionKernel
  private let slot: Int
  private let padding: Int

  var inputs: Int { kernel.inputs }
  var outputs: Int { kernel.outputs }

  /// Floats of scratch memory for a frame of this extent.
  func scratchFloats(rows: Int, columns: Int) -> Int {
    EngineThreads.count * kernel.scratchFloats(rows: rows, columns: columns)
  }

  /// Reads `weight` `[out, in, 3, 3, 3]` and `bias` `[out]`.
  init(_ weights: Weights, _ inputs: Int, _ outputs: Int, _ slots: inout CausalSlots) throws(WeightsError) {
    kernel = CausalConvolutionKernel(
      weight: try weights.tensor("weight", shape: [outputs, inputs, 3, 3, 3]),
      bias: try weights.tensor("bias", shape: [outputs]))
    slot = slots.next()
    padding = 1
  }

  func callAsFunction(
    _ frame: Tensor, adding skip: Tensor? = nil, _ memory: inout CausalMemory, _ run: RunContext
  ) throws(Cancelled) -> Tensor {
    let result = Tensor.causalConvolution(
      memory[slot] + [frame], kernel: kernel, padding: ConvolutionPadding(padding), adding: skip,
      cancellation: run.cancellation)
    memory.append(frame, to: slot, keeping: kernel.frames - 1)
    try run.checkpoint()
    return result
  }
}

/// `WanRMS_norm`: every pixel's channels to length `sqrt(C)`, then a factor per channel.
struct WanRMSNorm: Sendable {
  private let gamma: Tensor

  /// Reads `gamma` `[channels]` with `axes` more extents of 1.
  init(_ weights: Weights, _ channels: Int, axes: Int = 3) throws(WeightsError) {
    gamma = try weights.tensor("gamma", shape: [channels] + [Int](repeating: 1, count: axes))
      .reshaped([channels])
  }

  func callAsFunction(_ x: Tensor, activation: Activation = .identity) -> Tensor {
    Tensor.lengthNorm(x, weight: gamma, activation: activation)
  }
}

/// `conv2(silu(norm2(conv1(silu(norm1(x)))))) + shortcut(x)`.
struct WanResidualBlock: Sendable {
  private let norm1: WanRMSNorm
  let conv1: WanCausalConv3d
  private let norm2: WanRMSNorm
  let conv2: WanCausalConv3d
  private let shortcut: PointwiseConvolution?

  init(_ weights: Weights, _ inputs: Int, _ outputs: Int, _ slots: inout CausalSlots) throws(WeightsError) {
    norm1 = try WanRMSNorm(weights["norm1"], inputs)
    conv1 = try WanCausalConv3d(weights["conv1"], inputs, outputs, &slots)
    norm2 = try WanRMSNorm(weights["norm2"], outputs)
    conv2 = try WanCausalConv3d(weights["conv2"], outputs, outputs, &slots)
    shortcut =
      inputs == outputs ? nil : try PointwiseConvolution(weights["conv_shortcut"], inputs, outputs, axes: 3)
  }

  func callAsFunction(
    _ x: Tensor, _ memory: inout CausalMemory, _ run: RunContext
  ) throws(Cancelled) -> Tensor {
    let inner = try conv1(norm1(x, activation: .silu), &memory, run)
    return try conv2(norm2(inner, activation: .silu), adding: shortcut?(x) ?? x, &memory, run)
  }
}

/// Self-attention with a single head over the pixels of a frame.
struct WanAttentionBlock: Sendable {
  private let norm: WanRMSNorm
  private let toQKV: PointwiseConvolution
  private let proj: PointwiseConvolution
  let channels: Int

  init(_ weights: Weights, _ channels: Int) throws(WeightsError) {
    self.channels = channels
    norm = try WanRMSNorm(weights["norm"], channels, axes: 2)
    toQKV = try PointwiseConvolution(weights["to_qkv"], channels, channels * 3, axes: 2)
    proj = try PointwiseConvolution(weights["proj"], channels, channels, axes: 2)
  }

  func callAsFunction(_ x: Tensor, _ run: RunContext) throws(Cancelled) -> Tensor {
    let (pixels, channels) = (x.shape[1] * x.shape[2], x.shape[3])
    let qkv = toQKV(norm(x)).reshaped([1, pixels, 3, channels])
    try run.checkpoint()
    let part = { qkv.narrow(2, from: $0, length: 1) }  // [1, L, 1, C]
    let mixed = Tensor.attention(part(0), part(1), part(2))
    try run.checkpoint()
    return x + proj(mixed.reshaped(x.shape))
  }
}

/// Halves rows and columns, and the frame rate where the level has a `time_conv` (`WanResample`).
///
/// The first frame of a clip stays a frame of its own; after it every two frames become one.
struct WanDownsample: Sendable {
  private let conv: ConvolutionKernel
  private let time: CausalConvolutionKernel?
  private let slot: Int

  var channels: Int { conv.inputs }
  var isTemporal: Bool { time != nil }

  init(
    _ weights: Weights, _ channels: Int, temporal: Bool, _ slots: inout CausalSlots
  ) throws(WeightsError) {
    let spatial = weights["resample"][1]
    conv = ConvolutionKernel(
      weight: try spatial.tensor("weight", shape: [channels, channels, 3, 3]),
      bias: try spatial.tensor("bias", shape: [channels]), stride: 2)
    time =
      temporal
      ? CausalConvolutionKernel(
        weight: try weights["time_conv"].tensor("weight", shape: [channels, channels, 3, 1, 1]),
        bias: try weights["time_conv"].tensor("bias", shape: [channels])) : nil
    slot = slots.next()
  }

  /// - Returns: a frame, or nil while the second one of a pair is awaited.
  func callAsFunction(
    _ x: Tensor, _ memory: inout CausalMemory, _ run: RunContext
  ) throws(Cancelled) -> Tensor? {
    let padding = ConvolutionPadding(top: 0, bottom: 1, left: 0, right: 1)
    let half = Tensor.convolution(
      x, kernel: conv, stride: 2, padding: padding, cancellation: run.cancellation)
    try run.checkpoint()
    guard let time else { return half }
    let window = memory[slot] + [half]
    if memory.start(slot) {
      memory.append(half, to: slot, keeping: 1)
      return half
    }
    guard window.count == 3 else {
      memory.append(half, to: slot, keeping: 2)
      return nil
    }
    memory.append(half, to: slot, keeping: 1)
    return Tensor.causalConvolution(window, kernel: time, padding: ConvolutionPadding(0))
  }
}

/// Doubles rows and columns, and the frame rate where the level has a `time_conv` (`WanResample`).
///
/// The first frame of a clip stays one frame; the time convolution sees only those after it.
struct WanUpsample: Sendable {
  private let conv: ConvolutionKernel
  /// The filters of the earlier and of the later frame of each pair.
  private let times: [CausalConvolutionKernel]
  private let slot: Int

  var channels: Int { conv.inputs }
  var isTemporal: Bool { !times.isEmpty }

  /// Floats that the convolution takes beside its input and its result of this extent.
  func scratchFloats(rows: Int, columns: Int) -> Int {
    let scratch = EngineThreads.count * conv.scratchFloats(rows: rows, columns: columns)
    return scratch > 0 ? scratch : channels * rows * columns
  }

  init(
    _ weights: Weights, _ channels: Int, temporal: Bool, _ slots: inout CausalSlots
  ) throws(WeightsError) {
    let spatial = weights["resample"][1]
    conv = ConvolutionKernel(
      weight: try spatial.tensor("weight", shape: [channels / 2, channels, 3, 3]),
      bias: try spatial.tensor("bias", shape: [channels / 2]))
    if temporal {
      let weight = try weights["time_conv"].tensor("weight", shape: [2 * channels, channels, 3, 1, 1])
      let bias = try weights["time_conv"].tensor("bias", shape: [2 * channels])
      times = [0, channels].map { first in
        CausalConvolutionKernel(
          weight: weight.narrow(0, from: first, length: channels),
          bias: bias.narrow(0, from: first, length: channels))
      }
    } else {
      times = []
    }
    slot = slots.next()
  }

  /// - Returns: one frame, or two.
  func callAsFunction(
    _ x: Tensor, _ memory: inout CausalMemory, _ run: RunContext
  ) throws(Cancelled) -> [Tensor] {
    if times.isEmpty || memory.start(slot) { return [try doubled(x, run)] }
    let window = memory[slot] + [x]
    memory.append(x, to: slot, keeping: 2)
    var frames: [Tensor] = []
    for time in times {
      frames.append(
        try doubled(
          Tensor.causalConvolution(window, kernel: time, padding: ConvolutionPadding(0)), run))
    }
    return frames
  }

  private func doubled(_ x: Tensor, _ run: RunContext) throws(Cancelled) -> Tensor {
    let result = Tensor.upsampledConvolution(x, kernel: conv, cancellation: run.cancellation)
    try run.checkpoint()
    return result
  }
}
