public import DiffusionLayers

/// Shape of a Wan transformer: the keys of `transformer/config.json` (diffusers' `WanTransformer3DModel`).
public struct WanConfig: Sendable, Equatable {
  /// Latent extent of a patch: frames, rows, columns.
  public var patchSize: [Int]
  public var numAttentionHeads: Int
  public var attentionHeadDim: Int
  public var inChannels: Int
  public var outChannels: Int
  public var textDim: Int
  public var freqDim: Int
  public var ffnDim: Int
  public var numLayers: Int
  public var crossAttnNorm: Bool
  public var eps: Float

  /// Model width `D`.
  public var dim: Int { numAttentionHeads * attentionHeadDim }

  /// Reads and checks a parsed `config.json`.
  /// - Throws: `ConfigError` naming the key that is missing, out of range or not supported.
  public init(_ json: JSONValue, file: String) throws(ConfigError) {
    let config = try ConfigReader(json, file: file)
    try config.expect("_class_name", "WanTransformer3DModel")
    patchSize = try config.integers("patch_size", count: 3, in: 1...16)
    numAttentionHeads = try config.integer("num_attention_heads", in: 1...512)
    attentionHeadDim = try config.integer("attention_head_dim", in: 6...1024)
    inChannels = try config.integer("in_channels", in: 1...4096)
    outChannels = try config.integer("out_channels", in: 1...4096, default: inChannels)
    textDim = try config.integer("text_dim", in: 1...65536)
    freqDim = try config.integer("freq_dim", in: 2...65536)
    ffnDim = try config.integer("ffn_dim", in: 1...262144)
    numLayers = try config.integer("num_layers", in: 1...512)
    crossAttnNorm = try config.bool("cross_attn_norm", default: true)
    eps = Float(try config.number("eps", default: 1e-6))
    guard eps > 0 else { throw config.invalid("eps", "must be above 0") }
    guard attentionHeadDim % 2 == 0 else {
      throw config.invalid("attention_head_dim", "must be even for rotary embeddings")
    }
    try config.expect("qk_norm", "rms_norm_across_heads", allowMissing: true)
    for key in ["image_dim", "added_kv_proj_dim"] where !config.isNull(key) {
      throw config.invalid(
        key, "marks an image-to-video checkpoint, which needs a start image; use a text-to-video one")
    }
  }
}
