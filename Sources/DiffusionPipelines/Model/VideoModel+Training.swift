package import DiffusionLayers
package import DiffusionModels
package import TensorCore

/// What a model was trained to predict, and from what.
package enum TrainingNoise: Sendable, Equatable {
  /// `x = (1 - σ) x₀ + σ ε`, the model is told `timesteps * σ` and predicts `ε - x₀`.
  case flow(shift: Double, timesteps: Int)
  /// `x = √ᾱ x₀ + √(1 - ᾱ) ε` at a whole timestep.
  case schedule(alphasCumprod: [Double], prediction: PredictionType)
}

/// The parts of a model that a trainer works with.
extension VideoModel {
  /// The backbone's weights, shared.
  package var backboneSource: any WeightSource { backbone }

  /// Shape of the transformer, for methods that look into its blocks.
  /// - Throws: `PipelineError` for a model with another denoiser.
  package var transformerConfig: WanConfig {
    get throws(PipelineError) {
      guard let transformer = denoiser as? WanTransformer else {
        throw .unsupported(
          what: "tokens or masks of heads in '\(info.name)' (family \(info.family))",
          remedy: "use a model with a WanTransformer3DModel")
      }
      return transformer.config
    }
  }

  /// Latent frames, rows and columns of one token.
  package var patchSize: [Int] { denoiser.patchSize }

  /// Floats that one sample's latents `[1, C, f, h, w]` hold in the denoiser at a time.
  package func activationFloats(latents shape: [Int]) -> Int {
    denoiser.activationFloats(batch: 1, frames: shape[2], rows: shape[3], columns: shape[4])
  }

  package func trainingNoise() throws -> TrainingNoise { try scheduler.trainingNoise() }

  /// Whether a clip's latents are its pixels: nothing is gained by keeping them.
  package var isPixelSpace: Bool { if case .pixels = codec { true } else { false } }

  /// A backbone over other weights, such as those with trainable pairs. Copies no weight.
  package func backbone(from source: any WeightSource) throws -> any VideoBackbone {
    try denoiser.rebuilt(from: Weights(source))
  }

  /// Tokens of a clip of the model's own length and size: the keys of its self-attention.
  /// - Throws: `PipelineError` for a model without a transformer.
  package var attentionKeys: Int {
    get throws(PipelineError) {
      let patch = try transformerConfig.patchSize
      return info.latentFrames(info.clipLength) / patch[0]
        * (padded(info.trainedHeight) / codec.ratio / patch[1])
        * (padded(info.trainedWidth) / codec.ratio / patch[2])
    }
  }

  /// This model with another backbone, for samples during a training.
  /// - Parameter control: the strength token of the pairs in it, which are adapter 0.
  package func replacing(backbone other: any VideoBackbone, control: ControlToken? = nil) -> VideoModel {
    let reports = control.map { token in
      [
        AdapterReport(
          path: "the training", role: "auto", dialect: "", rank: 0, effectiveScale: 1, matchedKeys: 0,
          totalKeys: 0, unmatched: [], trainedRange: token.range)
      ]
    }
    return with(other, adapters: reports ?? adapters, controls: control.map { [$0] } ?? controls)
  }

  /// This model with the strength tokens as they were trained, without the tables that straighten them, and taking the
  /// strengths of `range`.
  package func uncalibrated(range: ClosedRange<Float>) -> VideoModel {
    with(
      denoiser, adapters: adapters,
      controls: controls.map { token in
        token.map {
          ControlToken(coefficients: $0.coefficients, bias: $0.bias, range: range, style: $0.style)
        }
      })
  }

  private func with(_ denoiser: any VideoBackbone, adapters: [AdapterReport], controls: [ControlToken?])
    -> VideoModel
  {
    VideoModel(
      info: info, adapters: adapters, denoiser: denoiser, controls: controls, codec: codec, text: text,
      scheduler: scheduler, coordinatePlanes: coordinatePlanes, memoryBudget: memoryBudget, backbone: backbone
    )
  }

  /// Latents `[1, C, f, h, w]` of frames of one size.
  /// - Throws: `PipelineError` for a length or size that the model does not take, or `Cancelled`.
  package func latents(of frames: [Frame], cancellation: Cancellation) throws -> Tensor {
    let (width, height) = (frames.first?.width ?? 0, frames.first?.height ?? 0)
    try checkGeometry(frames: frames.count, width: width, height: height)
    if let most = denoiser.maxFrames, info.latentFrames(frames.count) > most {
      throw PipelineError.option(
        name: "frames", value: "\(frames.count)",
        reason: "must be at most \(most): the model has no positions for more")
    }
    return try codec.encode(
      frames, height: padded(height), width: padded(width),
      budget: codecBudget(frames: frames.count, width: width, height: height),
      RunContext(cancellation: cancellation))
  }

  /// Embeddings `[1, L, textDim]` of a caption; an empty one gives those of a run without text.
  package func embedding(of caption: String, cancellation: Cancellation) throws -> Tensor {
    try text.encode(
      SamplerSettings(prompt: caption), guidanceScale: 1, RunContext(cancellation: cancellation)
    ).positive
  }

  /// Embeddings from a file, for models whose text encoder is not there.
  /// - Parameter withNegative: whether samples without a caption need those of a run without text.
  package func embeddings(file: String, withNegative: Bool) throws -> Conditioning {
    try text.encode(SamplerSettings(promptEmbeds: file), guidanceScale: withNegative ? 0 : 1, .plain)
  }

  /// What `backbone` predicts for noisy latents `[B, C, f, h, w]`.
  package func prediction(
    _ backbone: any VideoBackbone, _ latents: Tensor, timesteps: [Float], context: Tensor, _ run: RunContext
  ) throws(Cancelled) -> Tensor {
    try backbone.predict(
      coordinatePlanes ? CoordinatePlanes.appended(to: latents) : latents, timesteps: timesteps,
      context: context, run)
  }
}
