public import DiffusionLayers
import Glibc
public import TensorCore

// Reference: transformers, models/umt5/modeling_umt5.py and models/t5/modeling_t5.py. Names of weights are
// those of its checkpoints.

/// Tokens of one prompt.
public struct TokenSequence: Sendable, Equatable {
  public let ids: [Int]
  /// The first so many tokens can be attended to; those after them are padding that only looks.
  public let visible: Int

  /// - Parameter visible: 1 to `ids.count`; nil means all.
  public init(_ ids: [Int], visible: Int? = nil) {
    let visible = visible ?? ids.count
    precondition((1...max(1, ids.count)).contains(visible), "\(visible) visible of \(ids.count) tokens")
    self.ids = ids
    self.visible = visible
  }
}

/// Self-attention with a learned bias per head and distance, and no scaling of the scores.
struct T5SelfAttention: Sendable {
  let q: Linear
  let k: Linear
  let v: Linear
  let o: Linear
  let heads: Int
  let headDim: Int

  init(_ weights: Weights, _ config: T5Config) throws(WeightsError) {
    let (dim, inner) = (config.dModel, config.numHeads * config.dKv)
    q = try Linear(weights["q"], dim, inner, bias: false)
    k = try Linear(weights["k"], dim, inner, bias: false)
    v = try Linear(weights["v"], dim, inner, bias: false)
    o = try Linear(weights["o"], inner, dim, bias: false)
    (heads, headDim) = (config.numHeads, config.dKv)
  }

  /// `x` `[1, L, D]` holds the tokens of all sequences one behind the other; each attends to its own.
  func callAsFunction(
    _ x: Tensor, _ sequences: [TokenSequence], _ bias: T5PositionBias, _ run: RunContext
  ) -> Tensor {
    let (queries, keys, values) = (q(x, run), k(x, run), v(x, run))
    var start = 0
    let attended = sequences.map { sequence in
      let (count, visible) = (sequence.ids.count, sequence.visible)
      func part(_ rows: Tensor, _ length: Int) -> Tensor {
        rows.narrow(1, from: start, length: length).reshaped([1, length, heads, headDim])
      }
      let result = Tensor.attention(
        part(queries, count), part(keys, visible), part(values, visible),
        relativeBias: bias(queries: count, keys: visible), scale: 1)
      start += count
      return result.reshaped([1, count, heads * headDim])
    }
    return o(Tensor.concatenated(attended, axis: 1), run)
  }
}

/// The position bias of a layer: one row of values per bucket of distances.
struct T5PositionBias: Sendable {
  private let table: [Float]
  private let heads: Int
  private let buckets: Int
  private let maxDistance: Int

  init(_ weights: Weights, _ config: T5Config) throws(WeightsError) {
    (heads, buckets) = (config.numHeads, config.relativeAttentionNumBuckets)
    maxDistance = config.relativeAttentionMaxDistance
    table = try weights.tensor("weight", shape: [buckets, heads]).array()
  }

  /// `[H, queries + keys - 1]`: the bias of each head for `key - query` from `1 - queries` to `keys - 1`.
  func callAsFunction(queries: Int, keys: Int) -> Tensor {
    let distances = (1 - queries...keys - 1).map {
      Self.bucket(distance: $0, buckets: buckets, maxDistance: maxDistance)
    }
    return Tensor(
      (0..<heads).flatMap { head in distances.map { table[$0 * heads + head] } },
      shape: [heads, distances.count])
  }

  /// Half of the buckets are for keys behind the query. Of each half, the first half has one distance each, the
  /// others grow logarithmically up to `maxDistance`.
  static func bucket(distance: Int, buckets: Int, maxDistance: Int) -> Int {
    let half = buckets / 2
    let exact = half / 2
    let (size, offset) = (abs(distance), distance > 0 ? half : 0)
    if size < exact { return offset + size }
    // In single precision, as the reference does: a distance on a border must fall on the same side.
    let ratio = logf(Float(size) / Float(exact)) / Float(log(Double(maxDistance) / Double(exact)))
    return offset + min(half - 1, exact + Int(ratio * Float(half - exact)))
  }
}

/// The feed-forward part of a layer.
enum T5FeedForward: Sendable {
  case relu(wi: Linear, wo: Linear)
  case gatedGelu(gate: Linear, linear: Linear, wo: Linear)

  init(_ weights: Weights, _ config: T5Config) throws(WeightsError) {
    let (dim, inner) = (config.dModel, config.dFf)
    let wo = try Linear(weights["wo"], inner, dim, bias: false)
    switch config.feedForward {
    case .relu: self = .relu(wi: try Linear(weights["wi"], dim, inner, bias: false), wo: wo)
    case .gatedGelu:
      self = .gatedGelu(
        gate: try Linear(weights["wi_0"], dim, inner, bias: false),
        linear: try Linear(weights["wi_1"], dim, inner, bias: false), wo: wo)
    }
  }

  func callAsFunction(_ x: Tensor, _ run: RunContext) -> Tensor {
    switch self {
    case .relu(let wi, let wo): wo(wi(x, run, activation: .relu), run)
    case .gatedGelu(let gate, let linear, let wo):
      wo(gate(x, run, activation: .geluTanh) * linear(x, run), run)
    }
  }
}

/// The encoder of T5 and UMT5.
///
/// It keeps the cursor and not the weights: `encode` builds half a layer, uses it for all prompts and lets it go
/// before it takes the next. Over weights in memory that costs nothing; over a file it reads every weight once
/// and never has more than half a layer of them (UMT5-XXL: 11 GB in the file).
public struct T5Encoder: Sendable {
  public let config: T5Config
  private let weights: Weights
  private let shared: Embedding

  /// Checks names and shapes of all tensors and reads none.
  public init(_ weights: Weights, _ config: T5Config) throws(WeightsError) {
    self.config = config
    self.weights = weights
    shared = try Embedding(weights["shared"], config.vocabSize, config.dModel)
    for layer in 0..<config.numLayers {
      for (name, shape) in Self.tensors(of: layer, config) {
        try weights["encoder"]["block"][layer]["layer"].check(name, shape: shape)
      }
    }
    try weights["encoder"]["final_layer_norm"].check("weight", shape: [config.dModel])
  }

  /// Names below `encoder.block.N.layer` with their shapes.
  private static func tensors(of layer: Int, _ config: T5Config) -> [(String, [Int])] {
    let (dim, inner, wide) = (config.dModel, config.numHeads * config.dKv, config.dFf)
    let inputs = config.feedForward == .relu ? ["wi"] : ["wi_0", "wi_1"]
    let hasBias = layer == 0 || config.hasBiasInEveryLayer
    return [("0.layer_norm.weight", [dim]), ("1.layer_norm.weight", [dim])]
      + ["q", "k", "v"].map { ("0.SelfAttention.\($0).weight", [inner, dim]) }
      + [("0.SelfAttention.o.weight", [dim, inner]), ("1.DenseReluDense.wo.weight", [dim, wide])]
      + inputs.map { ("1.DenseReluDense.\($0).weight", [wide, dim]) }
      + (hasBias
        ? [
          (
            "0.SelfAttention.relative_attention_bias.weight",
            [config.relativeAttentionNumBuckets, config.numHeads]
          )
        ] : [])
  }

  /// Embeddings of prompts given as token ids, each `[1, length, D]` with zeros after the prompt's tokens
  /// (diffusers' `_get_t5_prompt_embeds`).
  ///
  /// - Parameter progress: told the layers done and their number.
  /// - Throws: `WeightsError`, `ConfigError` for ids that the model has no row for, `Cancelled`.
  public func encode(
    _ prompts: [[Int]], length: Int, _ run: RunContext,
    progress: (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) throws -> [Tensor] {
    try hiddenStates(prompts.map { TokenSequence($0) }, run, progress: progress).map { hidden in
      let missing = length - hidden.shape[1]
      precondition(missing >= 0, "\(hidden.shape[1]) tokens for \(length) places")
      if missing == 0 { return hidden }
      return Tensor.concatenated([hidden, Tensor.zeros([1, missing, config.dModel])], axis: 1)
    }
  }

  /// The last hidden states of each sequence, `[1, ids.count, D]`.
  public func hiddenStates(
    _ sequences: [TokenSequence], _ run: RunContext,
    progress: (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) throws -> [Tensor] {
    let ids = sequences.flatMap(\.ids)
    guard !ids.isEmpty else { return [] }
    if let unknown = ids.first(where: { !(0..<config.vocabSize).contains($0) }) {
      throw ConfigError(
        file: weights.file, key: "vocab_size",
        reason:
          "is \(config.vocabSize), and the tokenizer gives the id \(unknown); tokenizer and text encoder "
          + "must come from one model")
    }
    let run = run.along(.none)
    let encoder = weights["encoder"]
    var hidden = try shared(ids).reshaped([1, ids.count, config.dModel])
    var bias: T5PositionBias?
    for index in 0..<config.numLayers {
      try run.checkpoint()
      let layer = encoder["block"][index]["layer"]
      hidden = try attended(hidden, sequences, layer[0], &bias, run)
      try run.checkpoint()
      hidden = try fedForward(hidden, layer[1], run)
      progress(index + 1, config.numLayers)
    }
    hidden = try norm(encoder["final_layer_norm"])(hidden)
    var start = 0
    return sequences.map { sequence in
      defer { start += sequence.ids.count }
      return hidden.narrow(1, from: start, length: sequence.ids.count).contiguous()
    }
  }

  private func attended(
    _ hidden: Tensor, _ sequences: [TokenSequence], _ layer: Weights, _ bias: inout T5PositionBias?,
    _ run: RunContext
  ) throws(WeightsError) -> Tensor {
    let attention = try T5SelfAttention(layer["SelfAttention"], config)
    let current: T5PositionBias
    if let bias, !config.hasBiasInEveryLayer {
      current = bias
    } else {
      current = try T5PositionBias(layer["SelfAttention"]["relative_attention_bias"], config)
      bias = current
    }
    return hidden + attention(try norm(layer["layer_norm"])(hidden), sequences, current, run)
  }

  private func fedForward(_ hidden: Tensor, _ layer: Weights, _ run: RunContext) throws(WeightsError)
    -> Tensor
  {
    let feedForward = try T5FeedForward(layer["DenseReluDense"], config)
    return hidden + feedForward(try norm(layer["layer_norm"])(hidden), run)
  }

  private func norm(_ weights: Weights) throws(WeightsError) -> RMSNorm {
    try RMSNorm(weights, config.dModel, eps: config.layerNormEpsilon)
  }
}
