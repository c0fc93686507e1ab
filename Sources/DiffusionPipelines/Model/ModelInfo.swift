/// What a loaded model is and what it runs with by default.
public struct ModelInfo: Sendable, Equatable {
  /// Path or builtin name as given.
  public let name: String
  /// Backbone family, such as `wan`.
  public let family: String
  /// Floats of all loaded components.
  public let parameters: Int
  /// Bytes they take in memory.
  public let weightBytes: Int
  public let defaultSteps: Int
  public let defaultGuidance: Float
  /// Frames of a clip (window) and frames it shares with the one before.
  public let clipLength: Int
  public let overlap: Int
  /// Width and height are padded to multiples of this inside.
  public let sizeMultiple: Int
  /// Picture size that the model was trained for.
  public let trainedWidth: Int
  public let trainedHeight: Int
  /// Clip lengths are multiples of this.
  public let framesMultiple: Int

  /// Whether a picture size is so far from the trained one that results suffer: more than twice the area or
  /// less than a quarter of it.
  public func isFarFromTrained(width: Int, height: Int) -> Bool {
    let ratio = Double(width * height) / Double(trainedWidth * trainedHeight)
    return ratio > 4 || ratio < 0.25
  }
}

/// How far loading has come.
public struct LoadProgress: Sendable, Equatable {
  /// The component being loaded, such as `transformer`.
  public let component: String
  /// Share of all work that is done, 0…1.
  public let fraction: Double
}
