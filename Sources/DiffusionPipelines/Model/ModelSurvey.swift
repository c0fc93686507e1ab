import DiffusionLayers
import DiffusionModels
public import TensorCore

/// What Wan's own files, or single files made from them, hold: for people, from headers alone.
public struct ModelSurvey: Sendable {
  public struct Component: Sendable {
    /// diffusers' name of the component, such as `transformer`, and of its class.
    public let name: String
    public let className: String
    /// Path of the file, or of the index of its shards.
    public let file: String
    public let parameters: Int
    public let dtypes: [DType]
    /// Bytes of the tensors in the file.
    public let bytes: Int
  }

  public let components: [Component]

  /// Whether tensors of these names are a transformer that `model=` can name.
  public static func isModel(_ names: [String]) -> Bool { WanKeyNaming.detect(names) != nil }

  /// - Parameter path: a transformer's `.safetensors` file, or a folder that holds one.
  /// - Throws: as loading would, where the transformer is missing or another kind of model; a missing
  ///   autoencoder or text encoder is left out.
  public init(_ path: String) throws {
    let layout = try OriginalLayout(path, checkFinite: false)
    let (_, _, backbone) = try layout.backbone()
    var components = backbone.survey("transformer", "WanTransformer3DModel")
    if case .wan(let files, _, _) = try? layout.codec() {
      components += files.survey("vae", "AutoencoderKLWan")
    }
    if case .t5(let prompts) = try? layout.text() {
      components += prompts.files.survey("text_encoder", "UMT5EncoderModel")
    }
    self.components = components
  }
}

extension ComponentFiles {
  fileprivate func survey(_ name: String, _ className: String) -> [ModelSurvey.Component] {
    files.map {
      ModelSurvey.Component(
        name: name, className: className, file: $0.name, parameters: $0.parameters, dtypes: $0.dtypes,
        bytes: Int($0.storedBytes))
    }
  }
}
