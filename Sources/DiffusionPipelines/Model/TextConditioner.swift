import DiffusionLayers
import DiffusionModels
import TensorCore

/// Turns prompts, or files of precomputed embeddings, into conditioning; the one place where they are
/// validated.
struct TextConditioner: Sendable {
  /// What encodes a model's prompts.
  enum Encoder: Sendable {
    /// `reason`: what is missing and where.
    case none(reason: String)
    case tags(TagTable)
    case t5(T5Prompts)
  }

  let model: String
  let encoder: Encoder
  /// Width of the embeddings that the backbone takes.
  let textDim: Int

  /// Places of a prompt's embeddings.
  var length: Int {
    switch encoder {
    case .none: 512
    case .tags(let tags): tags.maxLength
    case .t5(let prompts): prompts.length
    }
  }

  /// Embeddings for a run's settings, or of a caption given as words in place of their prompt.
  func encode(_ settings: SamplerSettings, caption: [String]? = nil, _ run: RunContext) throws
    -> Conditioning
  {
    if caption == nil, let file = settings.promptEmbeds, !file.isEmpty { return try load(file) }
    switch encoder {
    case .none(let reason): throw PipelineError.noTextEncoder(model: model, reason: reason)
    case .tags(let tags):
      return Conditioning(
        positive: try tags.encode(caption ?? TagTable.words(of: settings.prompt)),
        negative: try tags.encode(TagTable.words(of: settings.negativePrompt)))
    case .t5(let prompts):
      return try prompts.encode(
        prompt: caption?.joined(separator: " ") ?? settings.prompt, negative: settings.negativePrompt, run)
    }
  }

  /// `prompt_embeds` and, optionally, `negative_prompt_embeds`: `[1, L, textDim]` or `[L, textDim]`, one
  /// length.
  private func load(_ path: String) throws -> Conditioning {
    let file = try SafetensorsFile(path: path)
    func embeddings(_ name: String) throws -> Tensor? {
      guard let entry = file.entries[name] else { return nil }
      let shape = entry.shape.count == 2 ? [1] + entry.shape : entry.shape
      guard shape.count == 3, shape[0] == 1, shape[2] == textDim, (1...4096).contains(shape[1]) else {
        throw PipelineError.embeddings(
          file: path,
          reason: "'\(name)' has the shape \(entry.shape), this model takes [1, length, \(textDim)]")
      }
      return try file.load(name).reshaped(shape)
    }
    guard let positive = try embeddings("prompt_embeds") else {
      throw PipelineError.embeddings(file: path, reason: "has no tensor 'prompt_embeds'")
    }
    let negative = try embeddings("negative_prompt_embeds") ?? Tensor.zeros(positive.shape)
    guard negative.shape == positive.shape else {
      throw PipelineError.embeddings(
        file: path,
        reason: "'negative_prompt_embeds' has the shape \(negative.shape), 'prompt_embeds' "
          + "\(positive.shape); both must have one length")
    }
    return Conditioning(positive: positive, negative: negative)
  }
}
