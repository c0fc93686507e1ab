import DiffusionLayers
import DiffusionPipelines
import Synchronization
import TensorCore

/// Latents of clips and embeddings of captions, computed once.
final class ClipCache: Sendable {
  private let model: VideoModel
  private let data: any TrainingData
  private let cancellation: Cancellation
  private let keepsLatents: Bool
  private let latents = Mutex<[Int: (latents: Tensor, sample: TrainingSample)]>([:])
  private let embeddings = Mutex<[String: Tensor]>([:])

  /// For every caption, and for none, in place of the text encoder.
  private let fixed: Conditioning?

  init(
    _ model: VideoModel, _ data: any TrainingData, promptEmbeds: String?, dropsCaptions: Bool,
    cancellation: Cancellation
  ) throws {
    self.model = model
    fixed = try promptEmbeds.map { try model.embeddings(file: $0, withNegative: dropsCaptions) }
    self.data = data
    self.cancellation = cancellation
    keepsLatents = data.isFixed && !model.isPixelSpace
  }

  /// A sample without its frames, and its latents `[1, C, f, h, w]`.
  func clip(_ index: Int, draw: UInt64) throws -> (latents: Tensor, sample: TrainingSample) {
    if keepsLatents, let known = latents.withLock({ $0[index] }) { return known }
    var sample = try data.sample(index, draw: draw)
    let encoded: Tensor
    do {
      encoded = try model.latents(of: sample.frames, cancellation: cancellation)
    } catch let error as PipelineError {
      throw TrainingError.data(path: sample.name, reason: "does not fit the model: \(error)")
    }
    sample.frames = []
    if keepsLatents { latents.withLock { $0[index] = (encoded, sample) } }
    return (encoded, sample)
  }

  /// Embeddings `[1, L, textDim]` of a caption.
  func embedding(_ caption: String) throws -> Tensor {
    if let fixed { return caption.isEmpty ? fixed.negative ?? fixed.positive : fixed.positive }
    if let known = embeddings.withLock({ $0[caption] }) { return known }
    let embedding = try model.embedding(of: caption, cancellation: cancellation)
    embeddings.withLock { $0[caption] = embedding }
    return embedding
  }
}
