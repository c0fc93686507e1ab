import DiffusionLayers
import DiffusionModels
public import TensorCore

/// Writes a model directory whose denoiser holds 8-bit integers, loadable at once by the engine.
///
/// The other components are copied. In `transformer/config.json` an entry `quantization_config` says what the weights
/// are, so that other programs refuse them instead of reading noise; how they are stored is described in docs/precision.md.
public enum ModelQuantizer {
  /// What was written.
  public struct Summary: Sendable, Equatable {
    /// Matrices that became 8-bit integers, of so many tensors.
    public let matrices: Int
    public let tensors: Int
    /// Bytes of the denoiser's weights before and after.
    public let bytesBefore: UInt64
    public let bytesAfter: UInt64
  }

  /// - Parameters:
  ///   - model: a directory in diffusers' layout, or a builtin model.
  ///   - output: the directory to make; nothing may be there.
  /// - Throws: `WeightsError`, `ConfigError`, `PipelineError` or `Cancelled`; then nothing was left behind.
  public static func run(
    _ model: String, output: String, cancellation: Cancellation = Cancellation(),
    progress: @escaping (Double) -> Void = { _ in }
  ) throws -> Summary {
    let directory = try ModelDirectory(model)
    guard directory.exists("model_index.json") else {
      throw PipelineError.unsupported(
        what: "quantising '\(model)', which has no model_index.json,",
        remedy: "use a directory in diffusers' layout")
    }
    let (architecture, files) = try DiffusersLayout(directory, checkFinite: true).backbone()
    guard case .wan = architecture else {
      throw PipelineError.unsupported(
        what: "a quantised copy of '\(model)', which has no Wan transformer,",
        remedy: "load it with precision=int8, which quantises it in memory")
    }
    guard !files.source.isQuantized else {
      throw PipelineError.option(
        name: "model", value: model, reason: "is quantised already; quantise the model that it was made from")
    }
    let result = Result { () throws -> Summary in
      let folder = try AtomicFolder(output)
      try copyOthers(of: directory, into: folder, cancellation)
      try writeConfig(directory, into: folder)
      let written = try QuantizedWriter.write(
        files.source, to: try folder.place("transformer/diffusion_pytorch_model.safetensors"),
        selects: { WanTransformer.toleratesInt8($0) && Weight.fitsInt8($1) }
      ) { done, total throws(WeightsError) in
        if cancellation.isCancelled { throw .unwritable(file: output, reason: "interrupted") }
        progress(Double(done) / Double(max(1, total)))
      }
      let summary = Summary(
        matrices: written.matrices, tensors: files.source.names.count,
        bytesBefore: files.files.reduce(0) { $0 + $1.storedBytes }, bytesAfter: UInt64(written.bytes))
      try folder.commit()
      return summary
    }
    try cancellation.check()
    return try result.get()
  }

  /// The index and the folders of the components beside the transformer.
  private static func copyOthers(
    of directory: ModelDirectory, into folder: borrowing AtomicFolder, _ cancellation: Cancellation
  ) throws {
    let index = try directory.json("model_index.json")
    let components = index.keys.filter { index[$0]?.array != nil && $0 != "transformer" }
    let names = ["model_index.json"] + components.flatMap { directory.files(below: $0) }
    for name in names {
      try cancellation.check()
      try folder.copy(try directory.source(name), to: name)
    }
  }

  private static func writeConfig(_ directory: ModelDirectory, into folder: borrowing AtomicFolder) throws {
    var config = try directory.json("transformer/config.json")
    config["quantization_config"] = [
      "quant_method": "videolora-int8", "bits": 8, "weight_scales": "per output channel",
      "activation_scales": "per token, while running",
    ]
    let text = JSONValue.object(config).serialized(pretty: true) + "\n"
    try AtomicFile.write(Array(text.utf8), to: try folder.place("transformer/config.json"))
  }
}
