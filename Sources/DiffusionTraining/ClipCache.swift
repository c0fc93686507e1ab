import DiffusionLayers
import DiffusionPipelines
import Synchronization
package import TensorCore

/// A clip as the model sees it.
package struct CachedClip: Sendable {
  /// `[1, C, f, h, w]`
  package let latents: Tensor
  /// Those of its source, of the same shape.
  package var source: Tensor?
  /// Without its frames.
  package let sample: TrainingSample

  package init(latents: Tensor, source: Tensor? = nil, sample: TrainingSample) {
    (self.latents, self.source, self.sample) = (latents, source, sample)
  }
}

/// Latents of clips and embeddings of captions, computed once.
final class ClipCache: Sendable {
  private let model: VideoModel
  private let data: any TrainingData
  private let cancellation: Cancellation
  private let keepsLatents: Bool
  private let latents = Mutex<[Int: CachedClip]>([:])
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

  func clip(_ index: Int, draw: UInt64) throws -> CachedClip {
    if keepsLatents, let known = latents.withLock({ $0[index] }) { return known }
    var sample = try data.sample(index, draw: draw)
    let (frames, source) = (sample.frames, sample.source)
    (sample.frames, sample.source) = ([], [])
    let clip: CachedClip
    do {
      clip = CachedClip(
        latents: try encoded(frames), source: source.isEmpty ? nil : try encoded(source), sample: sample)
    } catch let error as PipelineError {
      throw TrainingError.data(path: sample.name, reason: "does not fit the model: \(error)")
    }
    if keepsLatents { latents.withLock { $0[index] = clip } }
    return clip
  }

  /// Frame by frame encoders see a still clip once.
  private func encoded(_ frames: [Frame]) throws -> Tensor {
    guard let first = frames.first, frames.count > 1, model.info.temporalRatio == 1, !model.isPixelSpace,
      frames.allSatisfy({ $0.pixels == first.pixels })
    else { return try model.latents(of: frames, cancellation: cancellation) }
    let picture = try model.latents(of: [first], cancellation: cancellation)
    return Tensor.concatenated([Tensor](repeating: picture, count: frames.count), axis: 2)
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
