import DiffusionLayers
import DiffusionModels
public import TensorCore

/// Writes a model directory whose denoiser holds 8-bit integers, loadable at once by the engine.
///
/// The other components are copied. In the `config.json` of `transformer`, or of `unet` and `motion_adapter`, an entry
/// `quantization_config` says what the weights are, so that other programs refuse them instead of reading noise; how they
/// are stored is described in docs/precision.md.
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
    let layout = try DiffusersLayout(directory, checkFinite: true)
    let (architecture, components) = try denoiser(of: layout)
    let parts = try components.map { ($0, try layout.files($0)) }
    guard !parts.contains(where: { $0.1.isQuantized }) else {
      throw PipelineError.option(
        name: "model", value: model, reason: "is quantised already; quantise the model that it was made from")
    }
    let tensors = parts.reduce(0) { $0 + $1.1.names.count }
    let result = Result { () throws -> Summary in
      let folder = try AtomicFolder(output)
      try copyOthers(of: directory, beside: components, into: folder, cancellation)
      var (matrices, bytes, before) = (0, 0, 0)
      for (component, files) in parts {
        try writeConfig(directory, component, into: folder)
        let written = try QuantizedWriter.write(
          files, to: try folder.place("\(component)/diffusion_pytorch_model.safetensors"),
          selects: { architecture.toleratesInt8($0) && Weight.fitsInt8($1) }
        ) { done, _ throws(WeightsError) in
          if cancellation.isCancelled { throw .unwritable(file: output, reason: "interrupted") }
          progress(Double(before + done) / Double(max(1, tensors)))
        }
        matrices += written.matrices
        bytes += written.bytes
        before += files.names.count
      }
      let summary = Summary(
        matrices: matrices, tensors: tensors, bytesBefore: parts.reduce(0) { $0 + $1.1.storedBytes },
        bytesAfter: UInt64(bytes))
      try folder.commit()
      return summary
    }
    try cancellation.check()
    return try result.get()
  }

  /// The kind of denoiser and the folders that its weights stand in.
  private static func denoiser(of layout: DiffusersLayout) throws -> (BackboneArchitecture, [String]) {
    if layout.isImageModel {
      // An image model becomes a denoiser with the motion module that a run names.
      let folder = layout.directory.path
      let config = try UNetMotionConfig(
        image: .object(try layout.directory.json("unet/config.json")), file: "\(folder)/unet/config.json")
      return (.unet(config), ["unet"])
    }
    let (architecture, _) = try layout.backbone()
    let hasModule = layout.componentClass("unet") == "UNet2DConditionModel"
    return (architecture, [architecture.component] + (hasModule ? ["motion_adapter"] : []))
  }

  /// The index and the folders of the components beside the denoiser's.
  private static func copyOthers(
    of directory: ModelDirectory, beside denoiser: [String], into folder: borrowing AtomicFolder,
    _ cancellation: Cancellation
  ) throws {
    let index = try directory.json("model_index.json")
    let components = index.keys.filter { index[$0]?.array != nil && !denoiser.contains($0) }
    let names = ["model_index.json"] + components.flatMap { directory.files(below: $0) }
    for name in names {
      try cancellation.check()
      try folder.copy(try directory.source(name), to: name)
    }
  }

  private static func writeConfig(
    _ directory: ModelDirectory, _ component: String, into folder: borrowing AtomicFolder
  ) throws {
    var config = try directory.json("\(component)/config.json")
    config["quantization_config"] = [
      "quant_method": "videolora-int8", "bits": 8, "weight_scales": "per output channel",
      "activation_scales": "per token, while running",
    ]
    let text = JSONValue.object(config).serialized(pretty: true) + "\n"
    try AtomicFile.write(Array(text.utf8), to: try folder.place("\(component)/config.json"))
  }
}
