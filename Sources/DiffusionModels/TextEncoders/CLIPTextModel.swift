public import DiffusionLayers
public import TensorCore

// Reference: transformers, models/clip/modeling_clip.py (CLIPTextModel). Names of weights are those of its
// checkpoints before version 5, which adapters know them by.

/// Self-attention in which a token sees itself and those before it.
struct CLIPAttention: Sendable {
  private let query: Linear
  private let key: Linear
  private let value: Linear
  private let out: Linear
  private let heads: Int

  init(_ weights: Weights, _ config: CLIPTextConfig) throws(WeightsError) {
    let width = config.hiddenSize
    query = try Linear(weights["q_proj"], width, width)
    key = try Linear(weights["k_proj"], width, width)
    value = try Linear(weights["v_proj"], width, width)
    out = try Linear(weights["out_proj"], width, width)
    heads = config.numAttentionHeads
  }

  /// Tokens `[B, L, D]`; the result is added to `residual`.
  func callAsFunction(_ x: Tensor, mask: AttentionMask, onto residual: Tensor, _ run: RunContext) -> Tensor {
    let split = [x.shape[0], x.shape[1], heads, x.shape[2] / heads]  // [B, L, H, D/H]
    let mixed = Tensor.attention(
      query(x, run).reshaped(split), key(x, run).reshaped(split), value(x, run).reshaped(split), mask: mask)
    return out(mixed.reshaped(x.shape), onto: residual, run)
  }
}

/// One layer: attention and feed-forward, each behind its norm and beside the residual.
struct CLIPLayer: Sendable {
  private let norm1: LayerNorm
  private let attention: CLIPAttention
  private let norm2: LayerNorm
  private let fc1: Linear
  private let fc2: Linear

  init(_ weights: Weights, _ config: CLIPTextConfig) throws(WeightsError) {
    norm1 = try LayerNorm(weights["layer_norm1"], config.hiddenSize, eps: config.layerNormEps)
    attention = try CLIPAttention(weights["self_attn"], config)
    norm2 = try LayerNorm(weights["layer_norm2"], config.hiddenSize, eps: config.layerNormEps)
    fc1 = try Linear(weights["mlp"]["fc1"], config.hiddenSize, config.intermediateSize)
    fc2 = try Linear(weights["mlp"]["fc2"], config.intermediateSize, config.hiddenSize)
  }

  func callAsFunction(_ x: Tensor, mask: AttentionMask, _ run: RunContext) -> Tensor {
    let x = attention(norm1(x, run), mask: mask, onto: x, run)
    return fc2(Self.quickGelu(fc1(norm2(x, run), run)), onto: x, run)
  }

  /// `x * sigmoid(1.702 x)`
  private static func quickGelu(_ x: Tensor) -> Tensor { (x * 1.702).silu() * (1 / 1.702) }
}

/// CLIP's text encoder.
public struct CLIPTextModel: Sendable {
  public let config: CLIPTextConfig
  private let tokens: Embedding
  private let positions: Tensor
  private let layers: [CLIPLayer]
  private let finalNorm: LayerNorm
  private let file: String

  /// - Parameter weights: a source under the names of `CLIPKeyNaming.renamed`, maybe with adapters beside it.
  public init(_ source: any WeightSource, _ config: CLIPTextConfig) throws(WeightsError) {
    let weights = Weights(source)["text_model"]
    self.config = config
    file = source.name
    let embeddings = weights["embeddings"]
    tokens = try Embedding(embeddings["token_embedding"], config.vocabSize, config.hiddenSize)
    positions = try embeddings["position_embedding"].tensor(
      "weight", shape: [config.maxPositionEmbeddings, config.hiddenSize])
    var layers: [CLIPLayer] = []
    for index in 0..<config.numHiddenLayers {
      layers.append(try CLIPLayer(weights["encoder"]["layers"][index], config))
    }
    self.layers = layers
    finalNorm = try LayerNorm(weights["final_layer_norm"], config.hiddenSize, eps: config.layerNormEps)
  }

  /// The last hidden states behind the final norm, `[B, L, D]`, of prompts of one length.
  ///
  /// - Parameter prompts: token ids with start, end and padding, at most `maxPositionEmbeddings` of them each.
  /// - Throws: `ConfigError` for ids that the model has no row for, `WeightsError`, `Cancelled`.
  public func callAsFunction(_ prompts: [[Int]], _ run: RunContext) throws -> Tensor {
    let length = prompts.first?.count ?? 0
    precondition(
      (1...config.maxPositionEmbeddings).contains(length) && prompts.allSatisfy { $0.count == length },
      "prompts of \(prompts.map(\.count)) tokens for \(config.maxPositionEmbeddings) places")
    let ids = prompts.flatMap { $0 }
    if let unknown = ids.first(where: { !(0..<config.vocabSize).contains($0) }) {
      throw ConfigError(
        file: file, key: "vocab_size",
        reason:
          "is \(config.vocabSize), and the tokenizer gives the id \(unknown); tokenizer and text encoder "
          + "must come from one model")
    }
    let run = run.along(.none)
    let shape = [prompts.count, length, config.hiddenSize]
    let places = positions.narrow(0, from: 0, length: length).reshaped([1, length, config.hiddenSize])
    var x = try tokens(ids).reshaped(shape) + places
    let mask = Self.causalMask(length)
    for layer in layers {
      try run.checkpoint()
      x = layer(x, mask: mask, run)
    }
    return finalNorm(x, run)
  }

  /// Hides the keys behind each query.
  private static func causalMask(_ length: Int) -> AttentionMask {
    let values = (0..<length).flatMap { query in
      (0..<length).map { $0 <= query ? Float(0) : -.infinity }
    }
    return AttentionMask(bias: Tensor(values, shape: [length, length]))
  }
}
