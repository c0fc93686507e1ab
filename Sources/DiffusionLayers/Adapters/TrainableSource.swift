public import TensorCore

/// A base model whose targeted layers carry pairs that gradients are taken of. The base's tensors are handed on
/// unchanged and record nothing.
///
/// Building a model from it copies no weight, so a trainer builds one for every step instead of changing tensors that
/// others may hold.
public struct TrainableSource: WrappingSource {
  public let base: any WeightSource
  private let updates: [String: LayerUpdate]
  private let taken = TakenModules()
  /// The pairs' tensors, recorded: A and B of the first module, then of the next.
  public let leaves: [Tensor]

  /// - Parameters:
  ///   - scale: alpha / rank.
  ///   - isRecorded: false gives the same model without a tape, for held-out losses and samples.
  ///   - adapterIndex: the row of a run's strengths that the pairs listen to.
  public init(
    _ base: any WeightSource, factors: [AdapterFactors], scale: Float, isRecorded: Bool = true,
    adapterIndex: Int = 0
  ) {
    self.base = base
    var updates: [String: LayerUpdate] = [:]
    var leaves: [Tensor] = []
    for pair in factors {
      let (down, up) = isRecorded ? (pair.down.trainable(), pair.up.trainable()) : (pair.down, pair.up)
      leaves += [down, up]
      updates[pair.module] = LayerUpdate(
        adapterIndex: adapterIndex, weight: .lowRank(LoRAPair(down: down, up: up, scale: scale)))
    }
    self.updates = updates
    self.leaves = leaves
  }

  public func adapters(for module: String) -> [LayerUpdate] {
    guard let update = updates[module] else { return base.adapters(for: module) }
    taken.insert(module)
    return base.adapters(for: module) + [update]
  }

  /// Throws when the model that was built from this source left out a target: it would never learn anything.
  public func checkTaken() throws(LoRAError) {
    if let module = updates.keys.sorted().first(where: { !taken.contains($0) }) {
      throw .target(model: base.name, pattern: module, known: [])
    }
  }
}
