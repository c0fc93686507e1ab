public import DiffusionLayers

/// How a file names the tensors of a T5 or UMT5 encoder. `*` stands for the number of a block.
public struct T5KeyNaming: Sendable {
  /// A tensor that tells this naming from others.
  let mark: String
  /// Names in transformers' naming, which the encoder asks for, and how the file has them.
  let names: [(wanted: String, stored: String)]

  /// transformers' names, which ComfyUI's files have as well.
  public static let transformers = T5KeyNaming(
    mark: "encoder.block.0.layer.0.SelfAttention.q.weight",
    names: original.names.map { ($0.wanted, $0.wanted) }
      + [
        ("shared.weight", "encoder.embed_tokens.weight"),
        (
          "encoder.block.*.layer.1.DenseReluDense.wi.weight",
          "encoder.block.*.layer.1.DenseReluDense.wi.weight"
        ),
      ])

  /// The names of Wan's own repository (`models_t5_umt5-xxl-enc-bf16`).
  public static let original = T5KeyNaming(
    mark: "blocks.0.attn.q.weight",
    names: [
      ("shared.weight", "token_embedding.weight"),
      ("encoder.block.*.layer.0.layer_norm.weight", "blocks.*.norm1.weight"),
      ("encoder.block.*.layer.0.SelfAttention.q.weight", "blocks.*.attn.q.weight"),
      ("encoder.block.*.layer.0.SelfAttention.k.weight", "blocks.*.attn.k.weight"),
      ("encoder.block.*.layer.0.SelfAttention.v.weight", "blocks.*.attn.v.weight"),
      ("encoder.block.*.layer.0.SelfAttention.o.weight", "blocks.*.attn.o.weight"),
      (
        "encoder.block.*.layer.0.SelfAttention.relative_attention_bias.weight",
        "blocks.*.pos_embedding.embedding.weight"
      ),
      ("encoder.block.*.layer.1.layer_norm.weight", "blocks.*.norm2.weight"),
      ("encoder.block.*.layer.1.DenseReluDense.wi_0.weight", "blocks.*.ffn.gate.0.weight"),
      ("encoder.block.*.layer.1.DenseReluDense.wi_1.weight", "blocks.*.ffn.fc1.weight"),
      ("encoder.block.*.layer.1.DenseReluDense.wo.weight", "blocks.*.ffn.fc2.weight"),
      ("encoder.final_layer_norm.weight", "norm.weight"),
    ])

  /// The naming of a file with these tensors, nil when it holds no such encoder.
  public static func detect(_ source: any WeightSource) -> T5KeyNaming? {
    [transformers, original].first { source.contains($0.mark) }
  }

  /// Stored name of every wanted tensor that `source` has.
  func stored(in source: any WeightSource) -> [String: String] {
    var table: [String: String] = [:]
    let perBlock = names.filter { $0.wanted.contains("*") }
    for (wanted, stored) in names where !wanted.contains("*") {
      // The token table may be stored twice, under both names; the first counts.
      if table[wanted] == nil, source.contains(stored) { table[wanted] = stored }
    }
    var block = 0
    while true {
      var isThere = false
      for (wanted, stored) in perBlock {
        let name = Self.numbered(stored, block)
        guard source.contains(name) else { continue }
        table[Self.numbered(wanted, block)] = name
        isThere = true
      }
      if !isThere { return table }
      block += 1
    }
  }

  private static func numbered(_ pattern: String, _ block: Int) -> String {
    pattern.split(separator: "*", omittingEmptySubsequences: false).joined(separator: "\(block)")
  }
}

extension T5Encoder {
  /// Tensor of bytes in which some single-file encoders carry their `spiece.model`.
  public static let embeddedTokenizer = "spiece_model"

  /// An encoder over a file in any known naming.
  /// - Parameter config: nil infers the configuration from the shapes.
  /// - Throws: `ConfigError` when the file holds no such encoder, `WeightsError` for tensors that are missing or
  ///   of another shape.
  public init(source: any WeightSource, config: T5Config? = nil) throws {
    guard let naming = T5KeyNaming.detect(source) else {
      throw ConfigError(
        file: source.name, key: T5KeyNaming.transformers.mark,
        reason: "is missing, and \(T5KeyNaming.original.mark) too; this file holds no T5 or UMT5 encoder")
    }
    let weights = Weights(RenamedSource(source, stored: naming.stored(in: source)))
    try self.init(weights, try config ?? T5Config(inferredFrom: weights))
  }
}
