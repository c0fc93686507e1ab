public import TensorCore

/// Everything that a run carries beside the activations: one immutable value passed through every layer call.
///
/// Layers read what concerns them; a plain run is `RunContext.plain`. Model files stay the same when a method
/// adds a field here (control tokens, prompt caches, attention taps), because they pass the context on
/// unread.
public struct RunContext: Sendable {
  /// Strength of each adapter per latent frame: `[adapter][frame]`. Empty without adapters.
  public var strengths: [[Float]]
  /// How several adapters act together.
  public var compose: ComposeMode = .sum
  /// How rows of the current activations map to latent frames.
  public var axis: TokenAxis
  /// Polled between layers.
  public var cancellation: Cancellation?
  /// Positions of the tokens for rotary embeddings `(t, h, w)` in latent patches; nil counts from zero.
  public var positions: RotaryPositions?
  /// Training: blocks keep their inputs alone and compute their activations again for the gradient.
  public var recomputesActivations = false
  /// Sees queries and keys of self-attentions, for methods that tell heads apart.
  public var attentionTap: AttentionTap?

  /// The control tokens of adapters that have one and are not off.
  public var controls: [ControlSignal] = []
  /// Whether the rows are an adapter's own control token, which other adapters do not touch.
  package var isControlToken = false

  public init(
    strengths: [[Float]] = [], axis: TokenAxis = .none, cancellation: Cancellation? = nil,
    positions: RotaryPositions? = nil
  ) {
    self.strengths = strengths
    self.axis = axis
    self.cancellation = cancellation
    self.positions = positions
  }

  /// No adapters, no conditions.
  public static let plain = RunContext()

  /// The context for activations with another meaning of rows (text tokens, time embeddings).
  public func along(_ axis: TokenAxis) -> RunContext {
    var copy = self
    copy.axis = axis
    return copy
  }

  /// Throws when the run was cancelled.
  public func checkpoint() throws(Cancelled) {
    try cancellation?.check()
  }

  /// The context of some of the clip's latent frames.
  package func narrowed(to range: Range<Int>) -> RunContext {
    var copy = self
    copy.strengths = strengths.map { values in
      values.count >= range.upperBound ? Array(values[range]) : values
    }
    return copy
  }

  /// The strength of `adapter` for activations without a frame axis: the clip's mean.
  package func meanStrength(of adapter: Int) -> Float {
    guard adapter < strengths.count, !strengths[adapter].isEmpty else { return 1 }
    return strengths[adapter].reduce(0, +) / Float(strengths[adapter].count)
  }

  /// The strength of `adapter` for each latent frame when it differs between them, else nil.
  func animatedStrength(of adapter: Int) -> [Float]? {
    guard adapter < strengths.count, let first = strengths[adapter].first,
      strengths[adapter].contains(where: { $0 != first })
    else { return nil }
    return strengths[adapter]
  }
}

/// Called with the number of a block and the queries and keys `[B, L, H, D]` of its self-attention, normalised and turned,
/// before the attention runs. `Tensor.attentionWeights` gives the weights of some of the queries.
public typealias AttentionTap = @Sendable (_ block: Int, _ query: Tensor, _ key: Tensor) -> Void

/// An adapter's strength over a clip, as tokens that video tokens look at in self-attention.
public struct ControlSignal: Sendable {
  /// Which adapter of the model the tokens belong to: their own projections use the base and this adapter alone.
  public var adapterIndex: Int
  /// One token for each latent frame, `[1, F, width]`, or `[B, F, width]` for samples of different strengths.
  public var tokens: Tensor
  /// Added to the logits of the tokens' keys: one number, or one for each block.
  public var bias: Tensor

  public init(adapterIndex: Int, tokens: Tensor, bias: Tensor) {
    self.adapterIndex = adapterIndex
    self.tokens = tokens
    self.bias = bias
  }
}

/// What the rows of a layer's input stand for.
public enum TokenAxis: Sendable, Equatable {
  /// Rows have no frame (text tokens, time embeddings): adapters act with the clip's mean strength.
  case none
  /// Tokens in frame order, `perFrame` of them for every latent frame.
  case frames(perFrame: Int)
}

/// Positions for rotary embeddings, one value per patch along each axis; fractions stretch an axis.
public struct RotaryPositions: Sendable, Equatable {
  public var frames: [Float]
  public var rows: [Float]
  public var columns: [Float]

  public init(frames: [Float], rows: [Float], columns: [Float]) {
    self.frames = frames
    self.rows = rows
    self.columns = columns
  }
}
