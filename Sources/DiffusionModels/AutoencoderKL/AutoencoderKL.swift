public import DiffusionLayers
import Glibc
public import TensorCore

// Reference: diffusers, models/autoencoders/autoencoder_kl.py (AutoencoderKL).

/// Stable Diffusion's autoencoder: pictures 8x smaller along each side, each frame of a clip on its own.
///
/// Frames pass one at a time, so that memory is that of one frame whatever the length of the clip. Pictures are
/// frames `[F, H, W, 3]` in [-1, 1] with `H` and `W` multiples of `spatialRatio`, latents `[F, h, w, C]`.
public struct AutoencoderKL: Sendable {
  public let config: AutoencoderKLConfig
  let encoder: KLNetwork
  let decoder: KLNetwork
  private let quantConv: PointwiseConvolution?
  private let postQuantConv: PointwiseConvolution?

  /// Pixels per latent along each side.
  public var spatialRatio: Int { config.spatialRatio }
  /// Channels of a latent.
  public var latentChannels: Int { config.latentChannels }

  /// - Parameters:
  ///   - source: a checkpoint in diffusers' naming, older or newer, or the part of a Stable Diffusion checkpoint
  ///     in its original naming.
  ///   - config: parsed `vae/config.json`; nil infers it from the shapes.
  ///   - file: its name, for messages.
  /// - Throws: `ConfigError` or `WeightsError`, naming the key or the tensor.
  public init(_ source: any WeightSource, config: JSONValue? = nil, file: String = "vae/config.json") throws {
    let renamed = AutoencoderKLNaming.renamed(source)
    let config =
      if let config { try AutoencoderKLConfig(config, file: file) } else {
        try AutoencoderKLConfig(inferredFrom: renamed)
      }
    try self.init(Weights(renamed), config)
  }

  /// Builds the model from a checkpoint in diffusers' naming.
  public init(_ weights: Weights, _ config: AutoencoderKLConfig) throws(WeightsError) {
    self.config = config
    encoder = try KLNetwork(encoder: weights["encoder"], config)
    decoder = try KLNetwork(decoder: weights["decoder"], config)
    let channels = config.latentChannels
    quantConv =
      config.useQuantConv
      ? try PointwiseConvolution(weights["quant_conv"], 2 * channels, 2 * channels, axes: 2) : nil
    postQuantConv =
      config.usePostQuantConv
      ? try PointwiseConvolution(weights["post_quant_conv"], channels, channels, axes: 2) : nil
  }

  /// Encodes frames `[F, H, W, 3]` in [-1, 1].
  public func encode(_ frames: Tensor, _ run: RunContext) throws(Cancelled) -> Posterior {
    precondition(
      frames.rank == 4 && frames.shape[3] == 3 && frames.shape[1] % spatialRatio == 0
        && frames.shape[2] % spatialRatio == 0,
      "frames \(frames.shape) for an autoencoder of ratio \(spatialRatio)")
    let moments = try eachFrame(of: frames) { frame throws(Cancelled) in
      let both = try encoder(frame, run)
      return quantConv?(both) ?? both
    }
    return Posterior(
      mean: moments.narrow(3, from: 0, length: latentChannels).contiguous(),
      logvar: moments.narrow(3, from: latentChannels, length: latentChannels).clamped(-30, 20))
  }

  /// Decodes latents `[F, h, w, C]`, not normalised, to frames `[F, H, W, 3]` about [-1, 1], not clamped.
  public func decode(_ latents: Tensor, _ run: RunContext) throws(Cancelled) -> Tensor {
    precondition(
      latents.rank == 4 && latents.shape[3] == latentChannels,
      "latents \(latents.shape) for an autoencoder of \(latentChannels) channels")
    return try eachFrame(of: latents) { latent throws(Cancelled) in
      try decoder(postQuantConv?(latent) ?? latent, run)
    }
  }

  private func eachFrame(of clip: Tensor, _ body: (Tensor) throws(Cancelled) -> Tensor) throws(Cancelled)
    -> Tensor
  {
    if clip.shape[0] == 1 { return try body(clip.contiguous()) }
    var parts: [Tensor] = []
    for index in 0..<clip.shape[0] {
      parts.append(try body(clip.narrow(0, from: index, length: 1).contiguous()))
    }
    return Tensor.concatenated(parts, axis: 0)
  }

  /// Latents to about zero mean and unit variance, as the denoiser takes them.
  public func normalized(_ latents: Tensor) -> Tensor {
    latents.affine(config.scalingFactor, -config.shiftFactor * config.scalingFactor)
  }

  /// The inverse of `normalized`.
  public func denormalized(_ latents: Tensor) -> Tensor {
    latents.affine(1 / config.scalingFactor, config.shiftFactor)
  }

  /// The normal distribution that frames are encoded to.
  public struct Posterior: Sendable {
    /// `[F, h, w, C]`, not normalised; also the distribution's mode.
    public let mean: Tensor
    /// Logarithm of the variance, within [-30, 20].
    public let logvar: Tensor

    public init(mean: Tensor, logvar: Tensor) {
      self.mean = mean
      self.logvar = logvar
    }

    /// A draw: `mean + exp(logvar / 2) * noise`.
    /// - Parameter noise: normal draws in the shape of `mean`.
    public func sample(noise: Tensor) -> Tensor {
      precondition(noise.shape == mean.shape, "noise \(noise.shape) for latents \(mean.shape)")
      let deviation = logvar.array().map { expf(0.5 * $0) }
      return mean + Tensor(deviation, shape: mean.shape) * noise
    }
  }
}
