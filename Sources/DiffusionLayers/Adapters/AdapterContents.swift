import TensorCore

/// An adapter's layers as they are stored, under diffusers' names, free of the scheme they came in.
struct AdapterContents {
  struct Layer {
    var component: LoRAComponent
    var module: String
    var families: [LoRAFamily]
    /// A as it is stored, `[rank, in, …]`.
    var down: StoredTensor?
    /// B as it is stored, `[out, rank, …]`.
    var up: StoredTensor?
    /// alpha / rank.
    var factor = 1.0
    /// The whole change of the weight.
    var full: StoredTensor?
    /// The whole change of the bias at strength 1.
    var bias: StoredTensor?

    var rank: Int { down?.shape.first ?? 0 }
    var outputs: Int { (up ?? full ?? bias)?.shape.first ?? 0 }
    var isBiasOnly: Bool { up == nil && full == nil }
  }

  var layers: [Layer] = []
  /// The tensors of a strength token, by name; every scheme writes them as they are.
  var control: [(String, StoredTensor)] = []
  /// The file's header without what its alphas and ranks say.
  var metadata: [(String, String)] = []

  init() {}

  /// Reads a whole file; a NaN, an infinity, or a key that is no part of an update is an error.
  init(_ file: LoRAFile) throws(LoRAError) {
    if let key = file.otherKeys.first {
      throw .conversion(
        file: file.name,
        reason: "\(file.otherKeys.count) of its keys are no part of an update, such as '\(key)'")
    }
    do throws(WeightsError) {
      for key in file.controlKeys {
        guard let entry = file.tensors.entries[key] else { continue }
        _ = try file.tensors.load(key)  // refuses NaN and infinities
        control.append(
          (key, StoredTensor(dtype: entry.dtype, shape: entry.shape, bytes: try file.tensors.bytes(key))))
      }
    } catch {
      throw .file(error)
    }
    for layer in file.layers {
      do throws(WeightsError) {
        layers.append(try Self.read(layer, file.tensors))
      } catch {
        throw .file(error)
      }
    }
    let about = [
      "lora_adapter_metadata", "ss_network_alpha", "ss_network_dim", "unet", "text_encoder", "format",
    ]
    metadata = file.metadata.filter { key, _ in !about.contains(key) && !key.hasSuffix(":rank") }
  }

  private static func read(_ layer: LoRALayer, _ file: SafetensorsFile) throws(WeightsError) -> Layer {
    func stored(_ part: LoRAKey.Part) throws(WeightsError) -> StoredTensor? {
      guard let key = layer.keys[part], let entry = file.entries[key] else { return nil }
      let tensor = try file.load(key)  // refuses NaN and infinities
      if entry.dtype == .float64 {
        return StoredTensor(tensor.array(), shape: entry.shape, as: .float32)
      }
      return StoredTensor(dtype: entry.dtype, shape: entry.shape, bytes: try file.bytes(key))
    }
    var result = Layer(component: layer.component, module: layer.module, families: layer.families)
    result.down = try stored(.down)
    result.up = try stored(.up)
    result.factor = layer.factor
    result.full = try stored(.full)
    result.bias = try stored(.bias)
    if let key = layer.keys[.upBias], let entry = file.entries[key] {
      let values = (try file.load(key) * layer.scale).array()
      result.bias = StoredTensor(values, shape: entry.shape, as: entry.dtype)
    }
    return result
  }
}
