/// What a loaded model is and what it runs with by default.
public struct ModelInfo: Sendable, Equatable {
  /// Path or builtin name as given.
  public let name: String
  /// Backbone family, such as `wan`.
  public let family: String
  /// Floats of all components that stay in memory.
  public let parameters: Int
  /// Bytes they take in memory.
  public let weightBytes: Int
  /// The arithmetic that the backbone runs in, never `auto`.
  public let precision: Precision
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
  /// Frames per latent frame; above 1 the first frame of a clip has a latent frame of its own.
  public let temporalRatio: Int
  /// Latent frames per token of the backbone.
  public let temporalPatch: Int

  /// Whether neighbouring frames of a video-to-video stream share most of their noise.
  public let sharesNoise: Bool

  /// Latent frames of a clip of this length.
  public func latentFrames(_ frames: Int) -> Int { (frames - 1) / temporalRatio + 1 }

  /// The output frames that a latent frame decodes to.
  func frames(ofLatent index: Int) -> Range<Int> {
    temporalRatio == 1
      ? index..<index + 1 : max(0, (index - 1) * temporalRatio + 1)..<index * temporalRatio + 1
  }

  /// Whether a clip can have this length.
  public func isClipLength(_ frames: Int) -> Bool {
    Self.isClipLength(frames, temporalRatio: temporalRatio, temporalPatch: temporalPatch)
  }

  static func isClipLength(_ frames: Int, temporalRatio: Int, temporalPatch: Int) -> Bool {
    frames > 0 && (frames - 1) % temporalRatio == 0
      && ((frames - 1) / temporalRatio + 1) % temporalPatch == 0
  }

  /// The lengths that a clip can have, in words, such as `4n + 1 (1, 5, 9, …)`.
  public var clipLengthRule: String {
    if temporalPatch > 1 {
      return temporalRatio == 1
        ? "a multiple of \(temporalPatch)"
        : "one whose latent frames are a multiple of \(temporalPatch)"
    }
    return temporalRatio == 1
      ? "1 or more"
      : "\(temporalRatio)n + 1 (1, \(temporalRatio + 1), \(2 * temporalRatio + 1), …)"
  }

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
