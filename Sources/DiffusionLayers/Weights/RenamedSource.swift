public import TensorCore

/// A source under other tensor names: a checkpoint in one project's naming, read by a model written in another's.
public struct RenamedSource: WeightSource {
  private let base: any WeightSource
  /// Stored name of a name seen from outside, nil for one that there is not.
  private let stored: @Sendable (String) -> String?
  public let names: [String]

  /// - Parameter stored: for each name that the model asks for the name in `base`. Other tensors stay hidden.
  public init(_ base: any WeightSource, stored: [String: String]) {
    self.init(base, names: stored.keys.sorted()) { stored[$0] }
  }

  /// - Parameters:
  ///   - names: names that the model may ask for, for those who look at all of them.
  ///   - stored: the name in `base` of one that the model asks for.
  public init(
    _ base: any WeightSource, names: [String], stored: @escaping @Sendable (String) -> String?
  ) {
    self.base = base
    self.names = names
    self.stored = stored
  }

  public var name: String { base.name }

  public func file(of tensor: String) -> String { base.file(of: stored(tensor) ?? tensor) }

  public func shape(of tensor: String) -> [Int]? { stored(tensor).flatMap { base.shape(of: $0) } }

  public func format(of tensor: String) -> DType { stored(tensor).map { base.format(of: $0) } ?? .float32 }

  public func load(_ tensor: String, shape: [Int]) throws(WeightsError) -> Tensor {
    try base.load(try storedName(tensor, shape), shape: shape)
  }

  public func weight(_ tensor: String, shape: [Int]) throws(WeightsError) -> Weight {
    try base.weight(try storedName(tensor, shape), shape: shape)
  }

  public func filters(_ weight: String, shape: [Int], bias: String?, stride: Int) throws(WeightsError)
    -> ConvolutionKernel
  {
    let offsets: String? = if let bias { try storedName(bias, [shape[0]]) } else { nil }
    return try base.filters(try storedName(weight, shape), shape: shape, bias: offsets, stride: stride)
  }

  public func rows(_ tensor: String, shape: [Int], in range: Range<Int>) throws(WeightsError) -> Tensor {
    try base.rows(try storedName(tensor, shape), shape: shape, in: range)
  }

  private func storedName(_ tensor: String, _ shape: [Int]) throws(WeightsError) -> String {
    guard let name = stored(tensor) else { throw .missing(file: name, tensor: tensor, expected: shape) }
    return name
  }
}
