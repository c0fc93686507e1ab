import DiffusionLayers
import DiffusionModels

/// Which kind of denoiser a model has, with its shape: what is known of it before any weight is read.
enum BackboneArchitecture: Sendable {
  case wan(WanConfig)
  case unet(UNetMotionConfig)

  /// The family as `inspect` and reports name it.
  var family: String {
    switch self {
    case .wan: "wan"
    case .unet: "animatediff"
    }
  }

  /// The folder of diffusers' layout that the weights come from.
  var component: String {
    switch self {
    case .wan: "transformer"
    case .unet: "unet"
    }
  }

  /// Whether a matrix of this name may be rounded to 8 bits.
  func toleratesInt8(_ tensor: String) -> Bool {
    switch self {
    case .wan: WanTransformer.toleratesInt8(tensor)
    case .unet: UNetMotionModel.toleratesInt8(tensor)
    }
  }

  /// - Throws: `WeightsError` naming the tensor that is missing or of another shape.
  func build(_ weights: Weights) throws(WeightsError) -> any VideoBackbone {
    switch self {
    case .wan(let config): try WanTransformer(weights, config)
    case .unet(let config): try UNetMotionModel(weights, config)
    }
  }
}
