public import TensorCore

/// A source that hands on another one, all but what it says itself.
public protocol WrappingSource: WeightSource {
  /// The source that is handed on.
  var base: any WeightSource { get }
}

extension WrappingSource {
  public var name: String { base.name }
  public var names: [String] { base.names }
  public func file(of tensor: String) -> String { base.file(of: tensor) }
  public func contains(_ tensor: String) -> Bool { base.contains(tensor) }
  public func shape(of tensor: String) -> [Int]? { base.shape(of: tensor) }
  public func format(of tensor: String) -> DType { base.format(of: tensor) }

  public func load(_ tensor: String, shape: [Int]) throws(WeightsError) -> Tensor {
    try base.load(tensor, shape: shape)
  }

  public func weight(_ tensor: String, shape: [Int]) throws(WeightsError) -> Weight {
    try base.weight(tensor, shape: shape)
  }

  public func filters(_ weight: String, shape: [Int], bias: String?, stride: Int) throws(WeightsError)
    -> ConvolutionKernel
  {
    try base.filters(weight, shape: shape, bias: bias, stride: stride)
  }

  public func rows(_ tensor: String, shape: [Int], in range: Range<Int>) throws(WeightsError) -> Tensor {
    try base.rows(tensor, shape: shape, in: range)
  }
}
