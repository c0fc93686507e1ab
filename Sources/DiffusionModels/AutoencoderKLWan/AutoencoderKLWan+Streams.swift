public import DiffusionLayers
public import TensorCore

extension AutoencoderKLWan {
  /// Encodes one clip as its frames come: the first frame gives a latent frame, then every `temporalRatio`
  /// frames give one.
  ///
  /// Between two calls it keeps two frames per causal convolution. After an error it is of no more use.
  public struct Encoder: Sendable {
    private let model: AutoencoderKLWan
    private var memory: CausalMemory

    public init(_ model: AutoencoderKLWan) {
      self.model = model
      memory = CausalMemory(slots: model.encoder.slots)
    }

    /// Takes the next frames of the clip, any number of them.
    ///
    /// - Parameter frames: `[T, H, W, 3]` in [-1, 1]; all frames of a clip have one size.
    /// - Returns: the latent frames `[1, h, w, zDim]` that these frames complete, maybe none.
    public mutating func push(_ frames: Tensor, _ run: RunContext) throws(Cancelled) -> [Posterior] {
      precondition(
        frames.rank == 4 && frames.shape[3] == 3 && frames.shape[1] % model.spatialRatio == 0
          && frames.shape[2] % model.spatialRatio == 0,
        "frames \(frames.shape) for an autoencoder of ratio \(model.spatialRatio)")
      var moments: [Tensor] = []
      for index in 0..<frames.shape[0] {
        try run.checkpoint()
        try model.encoder.push(
          frames.narrow(0, from: index, length: 1).contiguous(), &memory, run, into: &moments)
      }
      let channels = model.config.zDim
      return moments.map { moments in
        let both = model.quantConv(moments)
        return Posterior(
          mean: both.narrow(3, from: 0, length: channels).contiguous(),
          logvar: both.narrow(3, from: channels, length: channels).clamped(-30, 20))
      }
    }
  }

  /// Decodes one clip as its latent frames come: the first gives one frame, each other one `temporalRatio`
  /// frames.
  ///
  /// Between two calls it keeps two frames per causal convolution. After an error it is of no more use.
  public struct Decoder: Sendable {
    private let model: AutoencoderKLWan
    private var memory: CausalMemory

    public init(_ model: AutoencoderKLWan) {
      self.model = model
      memory = CausalMemory(slots: model.decoder.slots)
    }

    /// Takes the next latent frame `[h, w, zDim]` or `[1, h, w, zDim]`, not normalised.
    ///
    /// - Returns: frames `[1, H, W, 3]` for the first one, then `[temporalRatio, H, W, 3]`, in [-1, 1].
    public mutating func push(_ latent: Tensor, _ run: RunContext) throws(Cancelled) -> Tensor {
      let shape = Array(latent.shape.suffix(3))
      precondition(
        latent.count == shape.product && shape.count == 3 && shape[2] == model.config.zDim,
        "latent frame \(latent.shape) for an autoencoder of \(model.config.zDim) channels")
      try run.checkpoint()
      var frames: [Tensor] = []
      try model.decoder.push(
        model.postQuantConv(latent.reshaped([1] + shape)), &memory, run, into: &frames)
      return Tensor.concatenated(frames, axis: 0).clamped(-1, 1)
    }
  }
}
