public import DiffusionLayers

/// Shape of a CLIP text encoder: the keys of `text_encoder/config.json` (transformers' `CLIPTextConfig`).
public struct CLIPTextConfig: Sendable, Equatable {
  public var vocabSize: Int
  /// Width `D` of the hidden states.
  public var hiddenSize: Int
  public var intermediateSize: Int
  public var numHiddenLayers: Int
  public var numAttentionHeads: Int
  /// The most tokens of a prompt, 77 in every published one.
  public var maxPositionEmbeddings: Int
  public var layerNormEps: Float
  /// The feed-forward part's activation.
  public var hiddenAct: Activation

  public enum Activation: String, Sendable {
    /// `x * sigmoid(1.702 x)`, CLIP-L.
    case quickGelu = "quick_gelu"
  }

  /// Reads and checks a parsed `config.json`.
  /// - Throws: `ConfigError` naming the key that is missing, out of range or not supported.
  public init(_ json: JSONValue, file: String) throws(ConfigError) {
    let config = try ConfigReader(json, file: file)
    if !config.isNull("model_type") {
      let type = try config.string("model_type")
      guard type == "clip_text_model" else {
        throw config.invalid("model_type", "is \"\(type)\"; only \"clip_text_model\" is supported")
      }
    }
    vocabSize = try config.integer("vocab_size", in: 1...4_000_000, default: 49408)
    hiddenSize = try config.integer("hidden_size", in: 1...65536)
    intermediateSize = try config.integer("intermediate_size", in: 1...262144)
    numHiddenLayers = try config.integer("num_hidden_layers", in: 1...512)
    numAttentionHeads = try config.integer("num_attention_heads", in: 1...512)
    maxPositionEmbeddings = try config.integer("max_position_embeddings", in: 2...4096, default: 77)
    layerNormEps = Float(try config.number("layer_norm_eps", default: 1e-5))
    guard layerNormEps > 0 else { throw config.invalid("layer_norm_eps", "must be above 0") }
    guard hiddenSize % numAttentionHeads == 0 else {
      throw config.invalid(
        "num_attention_heads", "is \(numAttentionHeads), which does not divide \(hiddenSize)")
    }
    let name = config.isNull("hidden_act") ? "quick_gelu" : try config.string("hidden_act")
    guard let activation = Activation(rawValue: name) else {
      throw config.invalid(
        "hidden_act",
        "is \"\(name.prefix(64))\"; only \"quick_gelu\", as in Stable Diffusion 1.x, is supported")
    }
    hiddenAct = activation
  }

  /// The configuration that the shapes of an encoder's tensors tell, for files that come without one; names as
  /// in `CLIPKeyNaming`. What shapes do not tell is as in CLIP-L.
  public init(inferredFrom source: any WeightSource) throws(ConfigError) {
    func shape(_ tensor: String, _ rank: Int) throws(ConfigError) -> [Int] {
      guard let shape = source.shape(of: tensor), shape.count == rank else {
        throw ConfigError(
          file: source.name, key: tensor, reason: "is missing or no tensor of \(rank) dimensions")
      }
      return shape
    }
    let tokens = try shape("text_model.embeddings.token_embedding.weight", 2)
    let positions = try shape("text_model.embeddings.position_embedding.weight", 2)
    let inner = try shape("text_model.encoder.layers.0.mlp.fc1.weight", 2)
    var layers = 0
    while layers < 513, source.contains("text_model.encoder.layers.\(layers).self_attn.q_proj.weight") {
      layers += 1
    }
    try self.init(
      .object([
        "vocab_size": .integer(tokens[0]), "hidden_size": .integer(tokens[1]),
        "intermediate_size": .integer(inner[0]), "num_hidden_layers": .integer(layers),
        "max_position_embeddings": .integer(positions[0]),
        // Heads of 64, as in CLIP-L.
        "num_attention_heads": .integer(max(1, tokens[1] / 64)),
      ]), file: source.name)
  }
}
