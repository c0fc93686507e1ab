public import TensorCore

/// Several sources as one: a model whose parts stand in files of their own.
public struct JoinedSource: WeightSource {
  private let parts: [any WeightSource]

  /// - Throws: `WeightsError.duplicateTensor` for a tensor that two of them have.
  public init(_ parts: [any WeightSource]) throws(WeightsError) {
    var holders: [String: any WeightSource] = [:]
    for part in parts {
      for tensor in part.names {
        if holders.updateValue(part, forKey: tensor) != nil {
          throw .duplicateTensor(file: part.file(of: tensor), name: tensor)
        }
      }
    }
    self.parts = parts
  }

  public var name: String { parts.first?.name ?? "" }
  public var names: [String] { parts.flatMap(\.names).sorted() }

  private func part(of tensor: String) -> (any WeightSource)? { parts.first { $0.contains(tensor) } }

  public func file(of tensor: String) -> String { part(of: tensor)?.file(of: tensor) ?? name }
  public func shape(of tensor: String) -> [Int]? { part(of: tensor)?.shape(of: tensor) }
  public func format(of tensor: String) -> DType { part(of: tensor)?.format(of: tensor) ?? .float32 }

  public func load(_ tensor: String, shape: [Int]) throws(WeightsError) -> Tensor {
    try found(tensor, shape).load(tensor, shape: shape)
  }

  public func weight(_ tensor: String, shape: [Int]) throws(WeightsError) -> Weight {
    try found(tensor, shape).weight(tensor, shape: shape)
  }

  public func rows(_ tensor: String, shape: [Int], in range: Range<Int>) throws(WeightsError) -> Tensor {
    try found(tensor, shape).rows(tensor, shape: shape, in: range)
  }

  private func found(_ tensor: String, _ shape: [Int]) throws(WeightsError) -> any WeightSource {
    guard let part = part(of: tensor) else { throw .missing(file: name, tensor: tensor, expected: shape) }
    return part
  }
}
