import Synchronization
package import TensorCore

/// Embeddings of the texts that a model encoded last, so that a prompt is encoded once for all clips, windows and
/// changes of adapters. Shared by all copies of a model.
package final class PromptMemory: Sendable {
  /// Texts that are kept: a pair or two, 8 MiB each for UMT5-XXL.
  private static let capacity = 4
  private let entries = Mutex<[(text: String, embeddings: Tensor)]>([])

  package init() {}

  /// The embeddings `[1, L, D]` of each text. Those not in memory are encoded together, in one call of `encode`.
  package func embeddings(of texts: [String], encode: ([String]) throws -> [Tensor]) rethrows -> [Tensor] {
    var known = entries.withLock { entries in
      Dictionary(entries.map { ($0.text, $0.embeddings) }, uniquingKeysWith: { $1 })
    }
    var missing: [String] = []
    for text in texts where known[text] == nil && !missing.contains(text) { missing.append(text) }
    if !missing.isEmpty {
      // Not under the lock: another run may encode the same meanwhile, which costs time and changes nothing.
      let made = try encode(missing)
      for (text, tensor) in zip(missing, made) { known[text] = tensor }
    }
    entries.withLock { entries in
      for text in texts {
        entries.removeAll { $0.text == text }
        if let tensor = known[text] { entries.append((text, tensor)) }
      }
      entries.removeFirst(max(0, entries.count - Self.capacity))
    }
    return texts.compactMap { known[$0] }
  }
}
