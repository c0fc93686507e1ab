import ArgumentParser
import DiffusionPipelines

/// The size of clips that a command makes.
struct SizeOptions: ParsableArguments {
  @Option(help: "Width in pixels (0 = the model's).")
  var width = 0

  @Option(help: "Height in pixels (0 = the model's).")
  var height = 0

  func validate() throws {
    for (name, value) in [("width", width), ("height", height)]
    where value != 0 && !(16...8192).contains(value) {
      throw ValidationError("--\(name) must lie in 16…8192.")
    }
  }

  /// Whether both are left to the model.
  var isModels: Bool { width == 0 && height == 0 }

  func resolved(_ info: ModelInfo) -> (width: Int, height: Int) {
    (width > 0 ? width : info.trainedWidth, height > 0 ? height : info.trainedHeight)
  }
}
