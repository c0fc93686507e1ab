public import TensorCore

/// Where a model's tensors come from: files, memory, or another source with adapters beside it.
public protocol WeightSource: Sendable {
  /// The file or folder, for messages.
  var name: String { get }
  /// Every tensor's name.
  var names: [String] { get }
  /// The file that holds this tensor, for messages.
  func file(of tensor: String) -> String
  func contains(_ tensor: String) -> Bool
  /// The stored shape, or nil when there is no such tensor.
  func shape(of tensor: String) -> [Int]?
  /// How the tensor's numbers are stored, as far as `weight` keeps them so; `.float32` by default.
  func format(of tensor: String) -> DType
  /// The tensor as f32. Throws `missing` when there is none and `shape` when it has another shape.
  func load(_ tensor: String, shape: [Int]) throws(WeightsError) -> Tensor
  /// The same in the number format of the file, for large matrices. By default what `load` gives.
  func weight(_ tensor: String, shape: [Int]) throws(WeightsError) -> Weight
  /// The filters of a convolution, packed: the tensor `weight` `[out, in, height, width]` and the tensor `bias` `[out]`. A
  /// source in memory packs them once for all models that are built from it.
  func filters(_ weight: String, shape: [Int], bias: String?, stride: Int) throws(WeightsError)
    -> ConvolutionKernel
  /// Rows `range` of a matrix of this shape as f32; a source over files reads no more than these.
  func rows(_ tensor: String, shape: [Int], in range: Range<Int>) throws(WeightsError) -> Tensor
  /// The adapters' updates of a module, such as `blocks.3.attn1.to_q`; empty for a plain model.
  func adapters(for module: String) -> [LayerUpdate]
}

extension WeightSource {
  public func file(of tensor: String) -> String { name }
  public func contains(_ tensor: String) -> Bool { shape(of: tensor) != nil }
  public func format(of tensor: String) -> DType { .float32 }
  public func adapters(for module: String) -> [LayerUpdate] { [] }

  public func weight(_ tensor: String, shape: [Int]) throws(WeightsError) -> Weight {
    Weight(try load(tensor, shape: shape))
  }

  public func filters(_ weight: String, shape: [Int], bias: String?, stride: Int) throws(WeightsError)
    -> ConvolutionKernel
  {
    let offsets: Tensor? = if let bias { try load(bias, shape: [shape[0]]) } else { nil }
    return ConvolutionKernel(weight: try self.weight(weight, shape: shape), bias: offsets, stride: stride)
  }

  public func rows(_ tensor: String, shape: [Int], in range: Range<Int>) throws(WeightsError) -> Tensor {
    try weight(tensor, shape: shape).rows(Array(range))
  }

  /// Throws unless the tensor is there and has this shape.
  package func check(_ tensor: String, shape expected: [Int]) throws(WeightsError) {
    guard let found = shape(of: tensor) else {
      throw .missing(file: name, tensor: tensor, expected: expected)
    }
    if found != expected {
      throw .shape(file: file(of: tensor), tensor: tensor, expected: expected, found: found)
    }
  }
}
