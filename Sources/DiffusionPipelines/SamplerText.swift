import DiffusionModels
import Synchronization

/// The text of a sampler as it was encoded last, with what the denoiser prepared from it.
final class SamplerText: Sendable {
  struct Entry: Sendable {
    /// Mean strengths of the adapters it was encoded at; empty where they do not matter.
    let strengths: [Float]
    let conditioning: Conditioning
    let keys: PromptKeys
  }

  private let last = Mutex<Entry?>(nil)

  /// The entry of these strengths, from `encode` unless the last one was of the same.
  func entry(_ strengths: [Float], encode: () throws -> Conditioning) rethrows -> Entry {
    if let kept = last.withLock({ $0 }), kept.strengths == strengths { return kept }
    let entry = Entry(strengths: strengths, conditioning: try encode(), keys: PromptKeys())
    last.withLock { $0 = entry }
    return entry
  }
}
