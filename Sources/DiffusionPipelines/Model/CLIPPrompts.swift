import DiffusionLayers
import DiffusionModels
import TensorCore

/// Prompts through CLIP's tokenizer and text encoder, as diffusers' `StableDiffusionPipeline` does it: padding is
/// looked at like text.
struct CLIPPrompts: Sendable {
  let encoder: CLIPTextModel
  let tokenizer: CLIPTokenizer
  /// The encoder's weights, under `CLIPKeyNaming`'s names.
  let source: ResidentSource
  /// Whether adapters change the encoder.
  let isAdapted: Bool

  init(_ source: ResidentSource, _ config: CLIPTextConfig, _ tokenizer: CLIPTokenizer) throws {
    guard tokenizer.vocabularySize <= config.vocabSize else {
      throw ConfigError(
        file: source.name, key: "vocab_size",
        reason:
          "is \(config.vocabSize), and the tokenizer has \(tokenizer.vocabularySize) tokens; tokenizer and "
          + "text encoder must come from one model")
    }
    self.init(
      encoder: try CLIPTextModel(source, config), tokenizer: tokenizer, source: source, isAdapted: false)
  }

  private init(encoder: CLIPTextModel, tokenizer: CLIPTokenizer, source: ResidentSource, isAdapted: Bool) {
    (self.encoder, self.tokenizer, self.source, self.isAdapted) = (encoder, tokenizer, source, isAdapted)
  }

  /// The same with adapters beside the encoder's weights.
  func adapted(with matches: [LoRAMatch]) throws -> CLIPPrompts {
    let adapted = AdaptedSource(source, adapters: matches)
    let encoder = try CLIPTextModel(adapted, encoder.config)
    try adapted.checkApplied()
    return CLIPPrompts(
      encoder: encoder, tokenizer: tokenizer, source: source,
      isAdapted: matches.contains { !$0.updates.isEmpty })
  }

  /// Places of a prompt's embeddings.
  var length: Int { encoder.config.maxPositionEmbeddings }

  /// Embeddings of texts, `[1, length, hiddenSize]` each, at the adapters' mean strengths of `run`.
  func encode(_ texts: [String], _ run: RunContext) throws -> [Tensor] {
    guard !texts.isEmpty else { return [] }
    let hidden = try encoder(texts.map { tokenizer.encode($0, length: length) }, run)
    return texts.indices.map { hidden.narrow(0, from: $0, length: 1).contiguous() }
  }
}
