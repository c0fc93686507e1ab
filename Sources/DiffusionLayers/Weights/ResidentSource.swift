public import TensorCore

/// Weights that are in memory: loaded once, shared by every model built from them.
///
/// Filters of convolutions are packed when a model first asks for them; only the packed ones stay.
public struct ResidentSource: WeightSource {
  public let name: String
  private let weights: [String: Weight]
  private let filters: FilterMemory

  public init(name: String, weights: [String: Weight]) {
    self.name = name
    self.weights = weights.filter { !FilterMemory.takes($0.value.shape) }
    filters = FilterMemory(weights.filter { FilterMemory.takes($0.value.shape) })
  }

  public init(name: String, tensors: [String: Tensor]) {
    self.init(name: name, weights: tensors.mapValues(Weight.init))
  }

  /// Loads the tensors of these names from `source`, all of them by default, in the number format of the file
  /// where they are matrices, else as f32.
  ///
  /// `format` may choose another format for a matrix, given its name, shape and stored format.
  /// `progress` is told the tensors done and their number before each tensor and at the end; what it throws,
  /// such as a cancellation, ends the loading.
  public init(
    loading source: any WeightSource, names: [String]? = nil,
    progress: (_ done: Int, _ total: Int) throws -> Void = { _, _ in },
    format: (_ tensor: String, _ shape: [Int], _ stored: DType) -> DType = { $2 }
  ) throws {
    let names = names ?? source.names
    var weights: [String: Weight] = [:]
    weights.reserveCapacity(names.count)
    for (index, tensor) in names.enumerated() {
      try progress(index, names.count)
      let shape = source.shape(of: tensor) ?? []
      let weight = try source.weight(tensor, shape: shape)
      weights[tensor] = shape.count == 2 ? weight.converted(to: format(tensor, shape, weight.format)) : weight
    }
    try progress(names.count, names.count)
    self.init(name: source.name, weights: weights)
  }

  public var names: [String] { (Array(weights.keys) + filters.shapes.keys).sorted() }

  public func shape(of tensor: String) -> [Int]? { weights[tensor]?.shape ?? filters.shapes[tensor] }

  public func format(of tensor: String) -> DType { weights[tensor]?.format ?? .float32 }

  public func load(_ tensor: String, shape: [Int]) throws(WeightsError) -> Tensor {
    try weight(tensor, shape: shape).floats()
  }

  public func weight(_ tensor: String, shape: [Int]) throws(WeightsError) -> Weight {
    try check(tensor, shape: shape)
    guard let found = weights[tensor] ?? filters.weight(tensor) else {
      throw .missing(file: name, tensor: tensor, expected: shape)
    }
    return found
  }

  public func filters(_ weight: String, shape: [Int], bias: String?, stride: Int) throws(WeightsError)
    -> ConvolutionKernel
  {
    try check(weight, shape: shape)
    let offsets: Tensor? = if let bias { try load(bias, shape: [shape[0]]) } else { nil }
    if let kernel = filters.kernel(weight, stride: stride, bias: offsets) { return kernel }
    return ConvolutionKernel(weight: try load(weight, shape: shape), bias: offsets, stride: stride)
  }

  /// Bytes in memory.
  public var bytes: Int {
    weights.values.reduce(0) { $0 + $1.bytes } + DType.float32.byteSize * filterFloats
  }

  /// Number of floats in memory.
  public var parameters: Int { weights.values.reduce(0) { $0 + $1.count } + filterFloats }

  private var filterFloats: Int { filters.shapes.values.reduce(0) { $0 + $1.reduce(1, *) } }
}
