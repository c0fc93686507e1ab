public import TensorCore

/// Weights that are in memory: loaded once, shared by every model built from them.
public struct ResidentSource: WeightSource {
  public let name: String
  private let tensors: [String: Tensor]

  public init(name: String, tensors: [String: Tensor]) {
    self.name = name
    self.tensors = tensors
  }

  /// Loads the tensors of these names from `source`, all of them by default.
  ///
  /// `progress` is told the tensors done and their number before each tensor and at the end; what it throws,
  /// such as a cancellation, ends the loading.
  public init(
    loading source: any WeightSource, names: [String]? = nil,
    progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
  ) throws {
    let names = names ?? source.names
    var tensors: [String: Tensor] = [:]
    tensors.reserveCapacity(names.count)
    for (index, tensor) in names.enumerated() {
      try progress(index, names.count)
      tensors[tensor] = try source.load(tensor, shape: source.shape(of: tensor) ?? [])
    }
    try progress(names.count, names.count)
    self.init(name: source.name, tensors: tensors)
  }

  public var names: [String] { tensors.keys.sorted() }

  public func shape(of tensor: String) -> [Int]? { tensors[tensor]?.shape }

  public func load(_ tensor: String, shape: [Int]) throws(WeightsError) -> Tensor {
    guard let found = tensors[tensor] else { throw .missing(file: name, tensor: tensor, expected: shape) }
    try check(tensor, shape: shape)
    return found
  }

  /// Number of floats in memory.
  public var parameters: Int { tensors.values.reduce(0) { $0 + $1.count } }
}
