public import DiffusionLayers
public import TensorCore

// Reference: diffusers, models/autoencoders/autoencoder_kl_wan.py (AutoencoderKLWan).

/// Wan 2.1's autoencoder: pictures 8x smaller along each side, four frames in one after the first.
///
/// It is causal in time, so clips pass through it a few frames at a time (`Encoder`, `Decoder`): memory does not
/// grow with a clip's length, and the result is the same as for the whole clip.
///
/// Pictures are frames `[F, H, W, 3]` in [-1, 1] with `H` and `W` multiples of `spatialRatio`, latents
/// `[f, h, w, zDim]`. `F = temporalRatio * (f - 1) + 1`: frames beyond that number are not encoded, so callers
/// repeat the last frame where they want all of them.
public struct AutoencoderKLWan: Sendable {
  public let config: AutoencoderKLWanConfig
  let encoder: WanNetwork
  let decoder: WanNetwork
  let quantConv: PointwiseConvolution
  let postQuantConv: PointwiseConvolution

  /// Pixels per latent along each side.
  public var spatialRatio: Int { config.spatialRatio }
  /// Frames per latent frame after the first.
  public var temporalRatio: Int { config.temporalRatio }
  /// Channels of a latent.
  public var latentChannels: Int { config.zDim }

  /// - Parameters:
  ///   - weights: cursor at the file's root, in diffusers' naming.
  ///   - config: parsed `vae/config.json`.
  ///   - file: its name, for messages.
  /// - Throws: `ConfigError` or `WeightsError`, naming the key or the tensor.
  public init(_ weights: Weights, config: JSONValue, file: String) throws {
    try self.init(weights, try AutoencoderKLWanConfig(config, file: file))
  }

  /// Builds the model from a checkpoint in diffusers' naming.
  public init(_ weights: Weights, _ config: AutoencoderKLWanConfig) throws(WeightsError) {
    self.config = config
    encoder = try WanNetwork(encoder: weights["encoder"], config)
    decoder = try WanNetwork(decoder: weights["decoder"], config)
    quantConv = try PointwiseConvolution(weights["quant_conv"], 2 * config.zDim, 2 * config.zDim, axes: 3)
    postQuantConv = try PointwiseConvolution(weights["post_quant_conv"], config.zDim, config.zDim, axes: 3)
  }

  /// Encodes a whole clip `[F, H, W, 3]` in [-1, 1].
  public func encode(_ frames: Tensor, _ run: RunContext) throws(Cancelled) -> Posterior {
    var encoder = Encoder(self)
    let parts = try encoder.push(frames, run)
    return Posterior(
      mean: Tensor.concatenated(parts.map(\.mean), axis: 0),
      logvar: Tensor.concatenated(parts.map(\.logvar), axis: 0))
  }

  /// Decodes a whole clip of latents `[f, h, w, zDim]`, not normalised, to `[F, H, W, 3]` in [-1, 1].
  public func decode(_ latents: Tensor, _ run: RunContext) throws(Cancelled) -> Tensor {
    var decoder = Decoder(self)
    var parts: [Tensor] = []
    for index in 0..<latents.shape[0] {
      parts.append(try decoder.push(latents.narrow(0, from: index, length: 1), run))
    }
    return Tensor.concatenated(parts, axis: 0)
  }

  /// Latents `[…, zDim]` to zero mean and unit variance per channel.
  public func normalized(_ latents: Tensor) -> Tensor {
    let shape = [config.zDim]
    return (latents - Tensor(config.latentsMean, shape: shape))
      * Tensor(config.latentsStd.map { 1 / $0 }, shape: shape)
  }

  /// The inverse of `normalized`.
  public func denormalized(_ latents: Tensor) -> Tensor {
    let shape = [config.zDim]
    return latents * Tensor(config.latentsStd, shape: shape) + Tensor(config.latentsMean, shape: shape)
  }

  /// The normal distribution that a clip is encoded to.
  public struct Posterior: Sendable {
    /// `[f, h, w, zDim]`, not normalised; also the distribution's mode, which the pipelines take.
    public let mean: Tensor
    /// Logarithm of the variance, within [-30, 20].
    public let logvar: Tensor
  }
}
