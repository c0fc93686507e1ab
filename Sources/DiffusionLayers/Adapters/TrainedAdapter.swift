import Glibc
import TensorCore

/// An adapter ready to be written: an ordinary LoRA under diffusers' names that says in its header what it is.
///
/// Header entries beside those of every LoRA (methods: "role-tagged LoRA"): `role`, `method`, `base_model`, `licence`,
/// `norm_profile` (JSON, log ‖scale · B · A‖ per layer) and what the trainer adds, such as its recipe.
public struct TrainedAdapter: Sendable {
  public var factors: [AdapterFactors]
  /// alpha / rank, one for all layers.
  public var scale: Double
  public var metadata: [(String, String)]

  public init(factors: [AdapterFactors], scale: Double, metadata: [(String, String)] = []) {
    self.factors = factors
    self.scale = scale
    self.metadata = metadata
  }

  /// Writes the file whole or not at all.
  public func write(to path: String) throws(LoRAError) {
    var contents = AdapterContents()
    contents.metadata = metadata + [("norm_profile", normProfile.serialized())]
    for pair in factors {
      var layer = AdapterContents.Layer(
        component: .denoiser, module: pair.module, families: ModuleNames.find(pair.module)?.families ?? [])
      layer.down = StoredTensor(pair.down.array(), shape: pair.down.shape, as: .float32)
      layer.up = StoredTensor(pair.up.array(), shape: pair.up.shape, as: .float32)
      layer.factor = scale
      contents.layers.append(layer)
    }
    _ = try LoRAWriter.write(contents, as: .diffusers, path: path, for: path)
  }

  /// log ‖dW‖ of every layer; null for a layer that changes nothing.
  private var normProfile: JSONValue {
    var profile = JSONObject()
    for pair in factors {
      let norm = scale * LayerUpdate.Change.lowRank(LoRAPair(down: pair.down, up: pair.up, scale: 1)).norm
      profile[pair.module] = norm > 0 ? .number(log(norm)) : .null
    }
    return .object(profile)
  }
}
