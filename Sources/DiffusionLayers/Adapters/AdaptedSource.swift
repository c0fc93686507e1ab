public import TensorCore

/// A base model with adapters beside it. The base's tensors are handed on unchanged and never merged, so
/// building a model again with other adapters copies nothing.
public struct AdaptedSource: WeightSource {
  private let base: any WeightSource
  private let pairs: [String: [LoRAPair]]

  /// `adapters` in the order of their strengths: adapter i gets `adapterIndex` i.
  public init(_ base: any WeightSource, adapters: [LoRAMatch]) {
    self.base = base
    var pairs: [String: [LoRAPair]] = [:]
    for (index, adapter) in adapters.enumerated() {
      for (module, pair) in adapter.pairs {
        var pair = pair
        pair.adapterIndex = index
        pairs[module, default: []].append(pair)
      }
    }
    self.pairs = pairs
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

  public func adapters(for module: String) -> [LoRAPair] {
    base.adapters(for: module) + (pairs[module] ?? [])
  }
}
