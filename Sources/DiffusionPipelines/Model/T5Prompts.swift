import DiffusionLayers
import DiffusionModels
import TensorCore

/// Prompts through SentencePiece and a T5 or UMT5 encoder, as diffusers' `WanPipeline` does it.
///
/// The encoder reads its weights layer by layer while it runs, so it takes no memory beside the denoiser; the
/// system's file cache makes the next prompt fast where there is room.
struct T5Prompts: Sendable {
  let encoder: T5Encoder
  /// What the encoder reads from.
  let files: ComponentFiles
  let tokenizer: SentencePieceTokenizer
  /// Places of a prompt's embeddings: `max_sequence_length`.
  let length: Int

  /// `length` as diffusers' `WanPipeline` has it.
  static let wanLength = 512

  /// Embeddings of texts, `[1, length, dModel]` each, in one pass through the weights.
  func encode(_ texts: [String], _ run: RunContext) throws -> [Tensor] {
    let ids = try texts.map { try tokenizer.encode(cleanedPrompt($0), maxLength: length) }
    return try encoder.encode(ids, length: length, run)
  }

  /// Bytes of the largest part of a layer while it is used: its weights as they are and widened.
  var peakBytes: UInt64 {
    let config = encoder.config
    return UInt64(3 * 2 + 2 * 4) * UInt64(config.dModel) * UInt64(config.dFf)
  }
}
