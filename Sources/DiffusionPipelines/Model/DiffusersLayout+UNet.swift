import DiffusionLayers
import DiffusionModels

/// Models with the UNet of Stable Diffusion 1.5: AnimateDiff's, and image models with a motion module beside them.
extension DiffusersLayout {
  /// Whether the model makes single pictures until a motion module is added.
  var isImageModel: Bool {
    componentClass("unet") == "UNet2DConditionModel" && componentClass("motion_adapter") == nil
  }

  func unet() throws -> (BackboneArchitecture, ComponentFiles) {
    let file = "unet/config.json"
    let (json, location) = (try directory.json(file), directory.location(of: file))
    let weights = try files("unet")
    let (config, found): (UNetMotionConfig, ComponentFiles)
    switch componentClass("unet") {
    case "UNetMotionModel":
      try refuseMotionModule()
      (config, found) = (try UNetMotionConfig(merged: .object(json), file: location), ComponentFiles(weights))
    case "UNet2DConditionModel":
      let motion = try motion()
      config = try motion.config(image: json, file: location)
      found = ComponentFiles(weights, motion.weights, as: try JoinedSource([try motion.source(), weights]))
    case let name:
      throw PipelineError.unsupported(
        what: "the backbone \(name ?? "of '\(directory.path)'")",
        remedy: "use Stable Diffusion 1.5's UNet2DConditionModel with a motion module, or a UNetMotionModel")
    }
    try config.check(against: found.source, file: location)
    return (.unet(config), found)
  }

  /// The motion module: what the user names, else the model's own.
  private func motion() throws -> MotionModuleFiles {
    if let motionModule, !motionModule.isEmpty {
      return try MotionModuleFiles(motionModule, checkFinite: checkFinite)
    }
    guard componentClass("motion_adapter") != nil else {
      throw PipelineError.noMotionModule(model: directory.path)
    }
    return try MotionModuleFiles(directory.location(of: "motion_adapter"), checkFinite: checkFinite)
  }
}
