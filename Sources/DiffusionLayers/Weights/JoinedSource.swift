public import TensorCore

/// Several sources as one, such as the parts of a model that adapters may target together. Of two tensors of one name
/// the first source's counts.
public struct JoinedSource: WeightSource {
  private let sources: [any WeightSource]
  public let names: [String]

  /// - Parameter sources: at least one; the first gives the name for messages.
  public init(_ sources: [any WeightSource]) {
    precondition(!sources.isEmpty, "a joined source of nothing")
    self.sources = sources
    var seen: Set<String> = []
    names = sources.flatMap(\.names).filter { seen.insert($0).inserted }
  }

  public var name: String { sources[0].name }

  private func holder(of tensor: String) -> any WeightSource {
    sources.first { $0.contains(tensor) } ?? sources[0]
  }

  public func file(of tensor: String) -> String { holder(of: tensor).file(of: tensor) }
  public func shape(of tensor: String) -> [Int]? { holder(of: tensor).shape(of: tensor) }
  public func format(of tensor: String) -> DType { holder(of: tensor).format(of: tensor) }

  public func load(_ tensor: String, shape: [Int]) throws(WeightsError) -> Tensor {
    try holder(of: tensor).load(tensor, shape: shape)
  }

  public func weight(_ tensor: String, shape: [Int]) throws(WeightsError) -> Weight {
    try holder(of: tensor).weight(tensor, shape: shape)
  }

  public func rows(_ tensor: String, shape: [Int], in range: Range<Int>) throws(WeightsError) -> Tensor {
    try holder(of: tensor).rows(tensor, shape: shape, in: range)
  }
}
