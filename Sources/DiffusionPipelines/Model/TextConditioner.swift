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
    case clip(CLIPPrompts)
  }

  let model: String
  let encoder: Encoder
  /// Width of the embeddings that the backbone takes.
  let textDim: Int
  private let memory = PromptMemory()

  /// Places of a prompt's embeddings.
  var length: Int {
    switch encoder {
    case .none: 512
    case .tags(let tags): tags.maxLength
    case .t5(let prompts): prompts.length
    case .clip(let prompts): prompts.length
    }
  }

  /// Whether embeddings depend on the adapters' strengths.
  var isAdapted: Bool { if case .clip(let prompts) = encoder { prompts.isAdapted } else { false } }

  /// The parts of a model that adapters may change, with the encoder where it is one of them.
  func adaptable(_ parts: [LoRAComponent: any WeightSource]) -> [LoRAComponent: any WeightSource] {
    guard case .clip(let prompts) = encoder else { return parts }
    return parts.merging([.textEncoder: prompts.source]) { $1 }
  }

  /// The same with adapters beside the encoder's weights, all of them; an encoder that takes none stays as it is.
  /// - Parameter matches: in the order of the run's strengths.
  func adapted(with matches: [LoRAMatch]) throws -> TextConditioner {
    guard case .clip(let prompts) = encoder else { return self }
    if !prompts.isAdapted, matches.allSatisfy(\.updates.isEmpty) { return self }
    return TextConditioner(model: model, encoder: .clip(try prompts.adapted(with: matches)), textDim: textDim)
  }

  /// Embeddings for a run's settings, or of a caption given as words in place of their prompt. Without guidance
  /// (a scale of 1) the negative prompt is not looked at.
  func encode(
    _ settings: SamplerSettings, caption: [String]? = nil, guidanceScale: Float, _ run: RunContext
  ) throws -> Conditioning {
    let isGuided = guidanceScale != 1
    if caption == nil, let file = settings.promptEmbeds, !file.isEmpty {
      return try load(file, settings, isGuided: isGuided, run)
    }
    let prompt: Prompt = caption.map { .words($0) } ?? .text(settings.prompt)
    let embeddings = try encode([prompt] + (isGuided ? [.text(settings.negativePrompt)] : []), run)
    return Conditioning(positive: embeddings[0], negative: isGuided ? embeddings[1] : nil)
  }

  /// Both prompts through the encoder, remembered or not, for timings.
  func encodeAnew(_ settings: SamplerSettings, _ run: RunContext) throws -> Conditioning {
    try TextConditioner(model: model, encoder: encoder, textDim: textDim)
      .encode(settings, guidanceScale: 0, run)
  }

  /// What is encoded: a text as the user writes it, or words that were parsed already.
  private enum Prompt {
    case text(String)
    case words([String])

    var text: String {
      switch self {
      case .text(let text): text
      case .words(let words): words.joined(separator: " ")
      }
    }
  }

  private func encode(_ prompts: [Prompt], _ run: RunContext) throws -> [Tensor] {
    switch encoder {
    case .none(let reason): throw PipelineError.noTextEncoder(model: model, reason: reason)
    case .tags(let tags):
      return try prompts.map { prompt in
        switch prompt {
        case .text(let text): try tags.encode(TagTable.words(of: text))
        case .words(let words): try tags.encode(words)
        }
      }
    case .t5(let prompter):
      return try memory.embeddings(of: prompts.map(\.text)) { try prompter.encode($0, run) }
    case .clip(let prompter):
      // What adapters change depends on their strengths, which the memory does not know.
      if prompter.isAdapted { return try prompter.encode(prompts.map(\.text), run) }
      return try memory.embeddings(of: prompts.map(\.text)) { try prompter.encode($0, run) }
    }
  }

  /// `prompt_embeds` and `negative_prompt_embeds`: `[1, L, textDim]` or `[L, textDim]`, one length. Guidance without
  /// the second takes the negative prompt through the model's own encoder.
  private func load(_ path: String, _ settings: SamplerSettings, isGuided: Bool, _ run: RunContext) throws
    -> Conditioning
  {
    let file: SafetensorsFile
    do { file = try SafetensorsFile(path: path) } catch { throw PipelineError.embeddingsFile(error) }
    func embeddings(_ name: String) throws -> Tensor? {
      guard let entry = file.entries[name] else { return nil }
      let shape = entry.shape.count == 2 ? [1] + entry.shape : entry.shape
      guard shape.count == 3, shape[0] == 1, shape[2] == textDim, (1...4096).contains(shape[1]) else {
        throw PipelineError.embeddings(
          file: path,
          reason: "'\(name)' has the shape \(entry.shape), this model takes [1, length, \(textDim)]")
      }
      do {
        return try file.load(name).reshaped(shape)
      } catch {
        throw PipelineError.embeddingsFile(error)
      }
    }
    guard let positive = try embeddings("prompt_embeds") else {
      throw PipelineError.embeddings(file: path, reason: "has no tensor 'prompt_embeds'")
    }
    guard isGuided else { return Conditioning(positive: positive) }
    let name = "negative_prompt_embeds"
    if let negative = try embeddings(name) {
      guard negative.shape == positive.shape else {
        throw PipelineError.embeddings(
          file: path,
          reason: "'\(name)' has the shape \(negative.shape), 'prompt_embeds' \(positive.shape); both must "
            + "have one length")
      }
      return Conditioning(positive: positive, negative: negative)
    }
    if case .none(let reason) = encoder {
      throw PipelineError.embeddings(
        file: path,
        reason: "has no tensor '\(name)', which guidance needs, and the model cannot encode the negative "
          + "prompt (\(reason)); add the tensor, or set guidance-scale to 1")
    }
    let negative = try encode([.text(settings.negativePrompt)], run)[0]
    guard negative.shape == positive.shape else {
      throw PipelineError.embeddings(
        file: path,
        reason: "has no tensor '\(name)', which guidance needs, and 'prompt_embeds' \(positive.shape) is not "
          + "as long as what the model's encoder makes of the negative prompt \(negative.shape); add the "
          + "tensor, or set guidance-scale to 1")
    }
    return Conditioning(positive: positive, negative: negative)
  }
}
