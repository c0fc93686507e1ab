public import DiffusionLayers

/// Shape of a T5 or UMT5 encoder: the keys of `text_encoder/config.json` (transformers' `T5Config`,
/// `UMT5Config`).
public struct T5Config: Sendable, Equatable {
  /// The feed-forward part of a layer.
  public enum FeedForward: String, Sendable {
    /// `wo(relu(wi(x)))`, the first T5.
    case relu
    /// `wo(gelu(wi_0(x)) * wi_1(x))` with the tanh approximation, T5 1.1 and UMT5.
    case gatedGelu = "gated-gelu"
  }

  public var vocabSize: Int
  /// Width `D` of the hidden states.
  public var dModel: Int
  /// Width of an attention head; all heads together need not be `dModel` wide.
  public var dKv: Int
  public var dFf: Int
  public var numLayers: Int
  public var numHeads: Int
  public var relativeAttentionNumBuckets: Int
  public var relativeAttentionMaxDistance: Int
  public var layerNormEpsilon: Float
  public var feedForward: FeedForward
  /// Whether every layer has its own position bias (UMT5), or all share the first one's (T5).
  public var hasBiasInEveryLayer: Bool

  static let vocabularyRange = 1...4_000_000
  static let widthRange = 1...65536
  static let feedForwardRange = 1...262144
  static let countRange = 1...512

  /// Reads and checks a parsed `config.json`.
  /// - Throws: `ConfigError` naming the key that is missing, out of range or not supported.
  public init(_ json: JSONValue, file: String) throws(ConfigError) {
    let config = try ConfigReader(json, file: file)
    let type = try config.string("model_type")
    guard type == "umt5" || type == "t5" else {
      throw config.invalid("model_type", "is \"\(type)\"; only \"t5\" and \"umt5\" are supported")
    }
    hasBiasInEveryLayer = type == "umt5"
    vocabSize = try config.integer("vocab_size", in: Self.vocabularyRange)
    dModel = try config.integer("d_model", in: Self.widthRange)
    dKv = try config.integer("d_kv", in: 1...1024)
    dFf = try config.integer("d_ff", in: Self.feedForwardRange)
    numLayers = try config.integer("num_layers", in: Self.countRange)
    numHeads = try config.integer("num_heads", in: Self.countRange)
    relativeAttentionNumBuckets = try config.integer(
      "relative_attention_num_buckets", in: 4...1024, default: 32)
    relativeAttentionMaxDistance = try config.integer(
      "relative_attention_max_distance", in: 2...65536, default: 128)
    guard relativeAttentionMaxDistance > relativeAttentionNumBuckets / 4 else {
      throw config.invalid("relative_attention_max_distance", "must be above a quarter of the buckets")
    }
    layerNormEpsilon = Float(try config.number("layer_norm_epsilon", default: 1e-6))
    guard layerNormEpsilon > 0 else { throw config.invalid("layer_norm_epsilon", "must be above 0") }
    let kind = config.isNull("feed_forward_proj") ? nil : try config.string("feed_forward_proj")
    guard let parsed = FeedForward(rawValue: kind ?? (hasBiasInEveryLayer ? "gated-gelu" : "relu")) else {
      throw config.invalid("feed_forward_proj", "must be \"gated-gelu\" or \"relu\"")
    }
    feedForward = parsed
  }

  /// The configuration that the shapes of an encoder's tensors tell, for files that come without one; names as
  /// in `T5KeyNaming.transformers`. What shapes do not tell is as in every published T5 and UMT5.
  public init(inferredFrom weights: Weights) throws(ConfigError) {
    func shape(_ tensor: String, _ rank: Int) throws(ConfigError) -> [Int] {
      guard let shape = weights.shape(of: tensor), shape.count == rank, shape.allSatisfy({ $0 > 0 }) else {
        throw ConfigError(file: weights.file, key: tensor, reason: "must be a tensor of \(rank) dimensions")
      }
      return shape
    }
    func checked(_ value: Int, _ key: String, _ range: ClosedRange<Int>) throws(ConfigError) -> Int {
      guard range.contains(value) else {
        throw ConfigError(
          file: weights.file, key: key,
          reason: "would be \(value) by the tensors' shapes; possible are \(range.lowerBound) to "
            + "\(range.upperBound)")
      }
      return value
    }
    let attention = "encoder.block.0.layer.0.SelfAttention"
    let feedForwardLayer = "encoder.block.0.layer.1.DenseReluDense"
    let table = try shape("shared.weight", 2)
    let bias = try shape("\(attention).relative_attention_bias.weight", 2)
    let query = try shape("\(attention).q.weight", 2)
    vocabSize = try checked(table[0], "vocab_size", Self.vocabularyRange)
    dModel = try checked(table[1], "d_model", Self.widthRange)
    relativeAttentionNumBuckets = try checked(bias[0], "relative_attention_num_buckets", 4...256)
    numHeads = try checked(bias[1], "num_heads", Self.countRange)
    guard query[0] % numHeads == 0 else {
      throw ConfigError(
        file: weights.file, key: "d_kv", reason: "\(query[0]) channels cannot be shared by \(numHeads) heads")
    }
    dKv = try checked(query[0] / numHeads, "d_kv", 1...1024)
    feedForward = weights.has("\(feedForwardLayer).wi_0.weight") ? .gatedGelu : .relu
    let inner = try shape("\(feedForwardLayer).\(feedForward == .gatedGelu ? "wi_0" : "wi").weight", 2)
    dFf = try checked(inner[0], "d_ff", Self.feedForwardRange)
    var layers = 1
    while weights.has("encoder.block.\(layers).layer.0.SelfAttention.q.weight") { layers += 1 }
    numLayers = try checked(layers, "num_layers", Self.countRange)
    hasBiasInEveryLayer = weights.has("encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight")
    relativeAttentionMaxDistance = 128
    layerNormEpsilon = 1e-6
  }
}
