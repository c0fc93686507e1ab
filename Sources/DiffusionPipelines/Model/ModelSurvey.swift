import DiffusionLayers
import DiffusionModels
public import TensorCore

/// What Wan's own files, or single files made from them, and single-file checkpoints of Stable Diffusion hold: for people,
/// from headers alone.
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
  /// What the files are, in words.
  public let kind: String
  public let family: String

  /// Whether tensors of these names are a denoiser that `model=` can name.
  public static func isModel(_ names: [String]) -> Bool {
    WanKeyNaming.detect(names) != nil || UNetKeyNaming.detect(names)?.isOriginal == true
  }

  /// - Parameter path: a `.safetensors` file with a transformer or UNet, or a folder that holds one.
  /// - Throws: as loading would, where the transformer is missing or another kind of model; a missing
  ///   autoencoder or text encoder is left out.
  public init(_ path: String) throws {
    if let checkpoint = try StableDiffusionLayout(path, motionModule: nil, checkFinite: false) {
      (kind, family) = ("Stable Diffusion 1.x checkpoint", "animatediff, with a motion module")
      components = checkpoint.survey()
      return
    }
    (kind, family) = ("Wan's own files", "wan")
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

extension StableDiffusionLayout {
  fileprivate func survey() -> [ModelSurvey.Component] {
    var components = imageModel.survey("unet", "UNet2DConditionModel")
    if case .kl(let files, _, _) = try? codec() { components += files.survey("vae", "AutoencoderKL") }
    if case .clip(let files, _, _) = try? text() {
      components += files.survey("text_encoder", "CLIPTextModel")
    }
    return components
  }
}

extension ComponentFiles {
  fileprivate func survey(_ name: String, _ className: String) -> [ModelSurvey.Component] {
    guard files.count > 1 || source.names.count == files[0].names.count else {
      return [part(name, className)]
    }
    return files.map {
      ModelSurvey.Component(
        name: name, className: className, file: $0.name, parameters: $0.parameters, dtypes: $0.dtypes,
        bytes: Int($0.storedBytes))
    }
  }

  /// A component that shares its file with others.
  private func part(_ name: String, _ className: String) -> ModelSurvey.Component {
    ModelSurvey.Component(
      name: name, className: className, file: files[0].name, parameters: parameters, dtypes: files[0].dtypes,
      bytes: Int(tensorBytes))
  }
}
