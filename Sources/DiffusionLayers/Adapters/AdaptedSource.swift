import Synchronization
import TensorCore

/// A base model with adapters beside it. The base's tensors are handed on unchanged and never merged, so
/// building a model again with other adapters copies nothing.
public struct AdaptedSource: WrappingSource {
  public let base: any WeightSource
  private let updates: [String: [LayerUpdate]]
  private let files: [String]
  private let taken = TakenModules()

  /// `adapters` in the order of their strengths: adapter i gets `adapterIndex` i, and a layer that several adapters
  /// change learns what they mean for each other.
  public init(_ base: any WeightSource, adapters: [LoRAMatch]) {
    self.base = base
    var updates: [String: [LayerUpdate]] = [:]
    for (index, adapter) in adapters.enumerated() {
      for (module, update) in adapter.updates {
        var update = update
        update.adapterIndex = index
        updates[module, default: []].append(update)
      }
    }
    AdapterFusion.fuse(&updates, roles: adapters.map { $0.role ?? "" }, stated: adapters.map(\.statedNorms))
    self.updates = updates
    files = adapters.map(\.report.file)
  }

  public func adapters(for module: String) -> [LayerUpdate] {
    taken.insert(module)
    return base.adapters(for: module) + (updates[module] ?? [])
  }

  /// Throws when the model that was built from this source has not asked for an update: its layer is of a kind
  /// that adapters cannot change, and leaving it out would go unnoticed.
  public func checkApplied() throws(LoRAError) {
    for (module, updates) in updates.sorted(by: { $0.key < $1.key }) where !taken.contains(module) {
      throw .notApplied(file: files[updates[0].adapterIndex], module: module)
    }
  }
}

/// Names of the modules that a model took its updates of.
final class TakenModules: Sendable {
  private let names = Mutex<Set<String>>([])
  func insert(_ name: String) { names.withLock { _ = $0.insert(name) } }
  func contains(_ name: String) -> Bool { names.withLock { $0.contains(name) } }
}
