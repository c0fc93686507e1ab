public import TensorCore

/// A base model whose targeted layers carry pairs that gradients are taken of. The base's tensors are handed on
/// unchanged and record nothing.
///
/// Building a model from it copies no weight, so a trainer builds one for every step instead of changing tensors that
/// others may hold.
public struct TrainableSource: WeightSource {
  private let base: any WeightSource
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

  public var name: String { base.name }
  public var names: [String] { base.names }
  public func file(of tensor: String) -> String { base.file(of: tensor) }
  public func contains(_ tensor: String) -> Bool { base.contains(tensor) }
  public func shape(of tensor: String) -> [Int]? { base.shape(of: tensor) }

  public func load(_ tensor: String, shape: [Int]) throws(WeightsError) -> Tensor {
    try base.load(tensor, shape: shape)
  }

  public func weight(_ tensor: String, shape: [Int]) throws(WeightsError) -> Weight {
    try base.weight(tensor, shape: shape)
  }

  public func rows(_ tensor: String, shape: [Int], in range: Range<Int>) throws(WeightsError) -> Tensor {
    try base.rows(tensor, shape: shape, in: range)
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
