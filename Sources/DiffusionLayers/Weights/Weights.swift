public import TensorCore

/// A cursor over named weights, handed to the constructors of layers: `w["blocks"][3]["attn1"]["to_q"]`.
///
/// A layer asks for its own tensors where it is made, with the shapes its configuration implies:
/// `try w.tensor("weight", shape: [out, in])`. What stands behind the names is the source's business.
public struct Weights: Sendable {
  /// The module the cursor stands at, such as `blocks.3.attn1.to_q`; empty at the top.
  public let path: String
  private let source: any WeightSource

  public init(_ source: any WeightSource, path: String = "") {
    self.source = source
    self.path = path
  }

  /// One level down.
  public subscript(_ name: String) -> Weights { Weights(source, path: full(name)) }

  /// One level down, in a numbered list of modules.
  public subscript(_ index: Int) -> Weights { self["\(index)"] }

  /// Whether a tensor of this name stands here.
  public func has(_ name: String) -> Bool { source.contains(full(name)) }

  /// The stored shape of a tensor, or nil when there is none.
  public func shape(of name: String) -> [Int]? { source.shape(of: full(name)) }

  /// The tensor as f32; the error names the full path, the file and both shapes.
  public func tensor(_ name: String, shape: [Int]) throws(WeightsError) -> Tensor {
    try source.load(full(name), shape: shape)
  }

  /// The tensor in the number format of its file, for matrices and tables.
  public func weight(_ name: String, shape: [Int]) throws(WeightsError) -> Weight {
    try source.weight(full(name), shape: shape)
  }

  /// The filters `weight` `[out, in, height, width]` of a convolution and, with `bias`, its `bias` `[out]`.
  public func filters(_ shape: [Int], bias: Bool, stride: Int) throws(WeightsError) -> ConvolutionKernel {
    try source.filters(full("weight"), shape: shape, bias: bias ? full("bias") : nil, stride: stride)
  }

  /// Rows `range` of a matrix as f32, for tables of which a run needs few rows.
  public func rows(_ name: String, shape: [Int], in range: Range<Int>) throws(WeightsError) -> Tensor {
    try source.rows(full(name), shape: shape, in: range)
  }

  /// Throws the error that `tensor` would throw for a missing tensor or another shape, and reads nothing.
  public func check(_ name: String, shape: [Int]) throws(WeightsError) {
    try source.check(full(name), shape: shape)
  }

  /// The adapters' updates of the module the cursor stands at.
  public var adapters: [LayerUpdate] { source.adapters(for: path) }

  /// The file or folder behind the cursor, for messages.
  public var file: String { source.name }

  private func full(_ name: String) -> String { path.isEmpty ? name : "\(path).\(name)" }
}
