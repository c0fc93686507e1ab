public import DiffusionLayers
public import TensorCore

// Reference: madebyollin/taesd, TAEF2 (MIT). Names of weights are indexes into its flat sequences.

/// `ReLU(conv(ReLU(conv(ReLU(conv(x))))) + x)`; with a pool branch `x` first becomes
/// `x + conv1x1(ReLU(GroupNorm(conv1x1(x))))`, normalised over the whole picture.
struct TinyBlock: Sendable {
  let conv0: Conv2D
  let conv2: Conv2D
  let conv4: Conv2D
  let pool: Pool?

  struct Pool: Sendable {
    let expand: Conv2D
    let norm: GroupNorm
    let reduce: Conv2D

    init(_ weights: Weights, _ channels: Int) throws(WeightsError) {
      expand = try Conv2D(weights[0], channels, channels * 4, kernel: 1, padding: 0, bias: false)
      norm = try GroupNorm(weights[1], groups: 4, channels * 4, eps: 1e-5)
      reduce = try Conv2D(weights[3], channels * 4, channels, kernel: 1, padding: 0, bias: false)
    }
  }

  init(_ weights: Weights, _ channels: Int, pooled: Bool = false) throws(WeightsError) {
    conv0 = try Conv2D(weights["conv"][0], channels, channels)
    conv2 = try Conv2D(weights["conv"][2], channels, channels)
    conv4 = try Conv2D(weights["conv"][4], channels, channels)
    pool = pooled ? try Pool(weights["pool"], channels) : nil
  }

  /// Pictures `[N, H, W, C]`.
  func callAsFunction(_ x: Tensor, _ run: RunContext) throws(Cancelled) -> Tensor {
    var x = x
    if let pool {
      x = pool.reduce(pool.norm(pool.expand(x), activation: .relu), adding: x)
    }
    try run.checkpoint()
    let inner = conv0(x, activation: .relu, cancellation: run.cancellation)
    try run.checkpoint()
    let outer = conv2(inner, activation: .relu, cancellation: run.cancellation)
    try run.checkpoint()
    return conv4(outer, activation: .relu, adding: x, cancellation: run.cancellation)
  }
}

/// A stage of the flat sequences.
private enum TinyStage: Sendable {
  case convolution(Conv2D, relu: Bool)
  case block(TinyBlock)
  /// Of pictures twice as large.
  case upsampling(Conv2D)

  func callAsFunction(_ x: Tensor, _ run: RunContext) throws(Cancelled) -> Tensor {
    try run.checkpoint()
    return switch self {
    case .convolution(let layer, let relu):
      layer(x, activation: relu ? .relu : .identity, cancellation: run.cancellation)
    case .block(let block): try block(x, run)
    case .upsampling(let layer): layer.upsampling(x, cancellation: run.cancellation)
    }
  }
}

/// The tiny autoencoder in TAEF2's layout: 8x smaller, 32 channels, each frame on its own.
public struct AutoencoderTiny: Sendable {
  /// Pixels per latent along each side.
  public static let spatialRatio = 8
  /// Channels of a latent.
  public static let latentChannels = 32
  private static let width = 64

  /// Mean and standard deviation per channel that bring latents to zero mean and unit variance.
  public let latentsMean: [Float]
  public let latentsStd: [Float]
  private let encoder: [TinyStage]
  private let decoder: [TinyStage]

  /// - Parameters:
  ///   - encoder: cursor at the encoder file's root.
  ///   - decoder: cursor at the decoder file's root.
  ///   - config: parsed `vae/config.json` with optional `latents_mean` and `latents_std`, 32 numbers each.
  public init(encoder: Weights, decoder: Weights, config: JSONValue?, file: String = "vae/config.json") throws
  {
    let (width, latents) = (Self.width, Self.latentChannels)
    var stages: [TinyStage] = [.convolution(try Conv2D(encoder[0], 3, width), relu: false)]
    func block(_ weights: Weights, pooled: Bool = false) throws -> TinyStage {
      .block(try TinyBlock(weights, width, pooled: pooled))
    }
    func down(_ weights: Weights) throws -> TinyStage {
      .convolution(try Conv2D(weights, width, width, stride: 2, bias: false), relu: false)
    }
    stages.append(try block(encoder[1]))
    for first in [2, 6, 10] {
      stages.append(try down(encoder[first]))
      for index in first + 1...first + 3 { stages.append(try block(encoder[index], pooled: first == 10)) }
    }
    stages.append(.convolution(try Conv2D(encoder[14], width, latents), relu: false))
    self.encoder = stages

    stages = [.convolution(try Conv2D(decoder[1], latents, width), relu: true)]
    for first in [3, 8, 13] {
      for index in first..<first + 3 { stages.append(try block(decoder[index], pooled: first == 3)) }
      stages.append(.upsampling(try Conv2D(decoder[first + 4], width, width, bias: false)))
    }
    stages.append(try block(decoder[18]))
    stages.append(.convolution(try Conv2D(decoder[19], width, 3), relu: false))
    self.decoder = stages

    let reader = try ConfigReader(config ?? .object(JSONObject(file: file)), file: file)
    func statistics(_ key: String, _ fallback: Float) throws(ConfigError) -> [Float] {
      if reader.isNull(key) { return [Float](repeating: fallback, count: latents) }
      return try reader.numbers(key, count: latents).map(Float.init)
    }
    latentsMean = try statistics("latents_mean", 0)
    latentsStd = try statistics("latents_std", 1)
    guard latentsStd.allSatisfy({ $0 > 0 }) else { throw reader.invalid("latents_std", "must be positive") }
  }

  /// One picture `[1, H, W, 3]` in [0, 1] to `[1, H/8, W/8, 32]`, not normalised. `H`, `W` are multiples of
  /// 8.
  public func encode(_ picture: Tensor, _ run: RunContext) throws(Cancelled) -> Tensor {
    var x = picture
    for stage in encoder { x = try stage(x, run) }
    return x
  }

  /// One latent picture `[1, h, w, 32]`, not normalised, to `[1, 8h, 8w, 3]`, not clamped.
  public func decode(_ latent: Tensor, _ run: RunContext) throws(Cancelled) -> Tensor {
    var x = latent.softClamped(3)
    for stage in decoder { x = try stage(x, run) }
    return x
  }

  /// Latents `[1, h, w, 32]` to zero mean and unit variance per channel.
  public func normalized(_ latent: Tensor) -> Tensor {
    (latent - Tensor(latentsMean, shape: [32])) * Tensor(latentsStd.map { 1 / $0 }, shape: [32])
  }

  /// The inverse of `normalized`.
  public func denormalized(_ latent: Tensor) -> Tensor {
    latent * Tensor(latentsStd, shape: [32]) + Tensor(latentsMean, shape: [32])
  }
}
