import Glibc
public import TensorCore

/// An adapter ready to be written: an ordinary LoRA under diffusers' names that says in its header what it is
/// (`AdapterHeader`).
public struct TrainedAdapter: Sendable {
  public var factors: [AdapterFactors]
  /// alpha / rank, one for all layers.
  public var scale: Double
  /// What the file says about itself; the norms of its updates are added when it is written.
  public var header: AdapterHeader
  /// The strength token of an adapter that has one.
  public var control: ControlToken?
  /// Further entries of the file's header.
  public var metadata: [(String, String)]
  /// How the pairs are stored: float32, or rounded to bfloat16 or float16. A strength token is float32 always.
  public var dtype: DType

  public init(
    factors: [AdapterFactors], scale: Double, header: AdapterHeader = AdapterHeader(),
    control: ControlToken? = nil, metadata: [(String, String)] = [], dtype: DType = .float32
  ) {
    precondition([.float32, .bfloat16, .float16].contains(dtype), "pairs as \(dtype)")
    self.dtype = dtype
    self.factors = factors
    self.scale = scale
    self.header = header
    self.control = control
    self.metadata = metadata
  }

  /// Writes the file whole or not at all, under the names of a scheme.
  /// - Throws: `LoRAError.conversion` for a scheme without names for some layer.
  public func write(to path: String, as dialect: LoRADialect = .diffusers) throws(LoRAError) {
    var contents = AdapterContents()
    var header = header
    let factors = factors.map {
      var pair = $0
      (pair.down, pair.up) = (rounded($0.down), rounded($0.up))
      return pair
    }
    header.weightNorms = Self.weightNorms(factors, scale: scale)
    contents.metadata = metadata + header.metadata
    contents.control = (control?.tensors ?? []).map { name, tensor in
      (name, StoredTensor(tensor.array(), shape: tensor.shape, as: .float32))
    }
    for pair in factors {
      var layer = AdapterContents.Layer(
        component: .denoiser, module: pair.module, families: ModuleNames.find(pair.module)?.families ?? [])
      layer.down = StoredTensor(pair.down.array(), shape: pair.down.shape, as: dtype)
      layer.up = StoredTensor(pair.up.array(), shape: pair.up.shape, as: dtype)
      layer.factor = scale
      contents.layers.append(layer)
    }
    _ = try LoRAWriter.write(contents, as: dialect, path: path, for: path)
  }

  /// The nearest numbers that `dtype` holds, ties to even.
  private func rounded(_ tensor: Tensor) -> Tensor {
    switch dtype {
    case .bfloat16: return Weight(tensor).rounded().floats()
    case .float16: return Tensor(tensor.array().map { Float(Float16($0)) }, shape: tensor.shape)
    default: return tensor
    }
  }

  /// ln ‖dW‖ of every layer that changes something.
  private static func weightNorms(_ factors: [AdapterFactors], scale: Double) -> [String: Double] {
    var norms: [String: Double] = [:]
    for pair in factors {
      let norm = scale * LayerUpdate.Change.lowRank(LoRAPair(down: pair.down, up: pair.up, scale: 1)).norm
      if norm > 0 { norms[pair.module] = log(norm) }
    }
    return norms
  }
}
