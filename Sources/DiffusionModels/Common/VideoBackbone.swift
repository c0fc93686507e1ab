public import DiffusionLayers
public import TensorCore

/// A denoiser of video latents, whatever its architecture: what samplers, loaders and replays need of one.
///
/// An immutable value, built from a cursor over weights; `rebuilt(from:)` gives the same architecture over others, such as
/// the same ones with adapters beside them.
public protocol VideoBackbone: Sendable {
  /// Channels of the latents that it takes, of those that it gives, and width of the text embeddings.
  var inChannels: Int { get }
  var outChannels: Int { get }
  var textDim: Int { get }
  /// Latent frames, rows and columns that one token stands for; a clip's extents are multiples of it.
  var patchSize: [Int] { get }
  /// The most latent frames of one call; nil for any number.
  var maxFrames: Int? { get }

  /// Floats that one call holds at its peak beside the weights, for latents `[B, C, F, H, W]` of this extent.
  func activationFloats(batch: Int, frames: Int, rows: Int, columns: Int) -> Int
  /// Floats of a prepared prompt of `length` places, for one entry of a batch and without adapters.
  func promptFloats(length: Int) -> Int

  /// The same architecture over other weights. Copies none of those that are in memory.
  func rebuilt(from weights: Weights) throws(WeightsError) -> Self

  /// What depends on text embeddings `context` `[B, Lc, textDim]` and the adapters alone, for all steps of runs with the
  /// mean strengths of `run`.
  func preparePrompt(_ context: Tensor, _ run: RunContext) throws(Cancelled) -> any BackbonePrompt
  /// A prompt of this backbone at the strengths of another run.
  func updatePrompt(_ prompt: any BackbonePrompt, _ run: RunContext) throws(Cancelled) -> any BackbonePrompt

  /// The model output for `latents` `[B, C, F, H, W]` at `timesteps`, one per batch entry.
  /// - Parameters:
  ///   - prompt: of this backbone, prepared for as many entries, at the strengths of `run`.
  ///   - cache: the clip's memory of its steps; a backbone that cannot leave out work ignores it.
  func predict(
    _ latents: Tensor, timesteps: [Float], prompt: any BackbonePrompt, _ run: RunContext,
    cache: inout FirstBlockCache
  ) throws(Cancelled) -> Tensor

  /// Whether a matrix of this name may be rounded to 8 bits.
  static func toleratesInt8(_ tensor: String) -> Bool
}

/// A prompt as one kind of backbone reads it.
public protocol BackbonePrompt: Sendable {}

extension VideoBackbone {
  /// A single call: the prompt is prepared for it alone.
  public func predict(_ latents: Tensor, timesteps: [Float], context: Tensor, _ run: RunContext)
    throws(Cancelled) -> Tensor
  {
    var cache = FirstBlockCache()
    return try predict(
      latents, timesteps: timesteps, prompt: try preparePrompt(context, run), run, cache: &cache)
  }
}

/// A backbone whose prompts are of one type: what `VideoBackbone` says of any prompt comes from what it does with its own.
public protocol PreparingBackbone: VideoBackbone {
  associatedtype Prompt: BackbonePrompt

  func prepare(context: Tensor, _ run: RunContext) throws(Cancelled) -> Prompt
  func updated(_ prompt: Prompt, _ run: RunContext) throws(Cancelled) -> Prompt
}

extension PreparingBackbone {
  public func preparePrompt(_ context: Tensor, _ run: RunContext) throws(Cancelled) -> any BackbonePrompt {
    try prepare(context: context, run)
  }

  public func updatePrompt(_ prompt: any BackbonePrompt, _ run: RunContext) throws(Cancelled)
    -> any BackbonePrompt
  {
    try updated(own(prompt), run)
  }

  /// A prompt that this kind of backbone has prepared.
  func own(_ prompt: any BackbonePrompt) -> Prompt {
    guard let prompt = prompt as? Prompt else {
      preconditionFailure("a prompt of \(type(of: prompt)) for a \(Self.self)")
    }
    return prompt
  }
}
