package import DiffusionPipelines

/// Which motion of a clip is measured.
package enum MotionMeasure: Sendable, Equatable {
  case camera(CameraMove)
  /// The size of the sprite's path with the camera taken out.
  case object

  /// From `object` or the name of a camera move.
  package init?(_ name: String) {
    if name == "object" {
      self = .object
    } else if let move = CameraMove(rawValue: name) {
      self = .camera(move)
    } else {
      return nil
    }
  }

  package static let names = CameraMove.allCases.map(\.rawValue) + ["object"]

  /// Amplitude of a clip in units of full scale (`CameraAxis.fullScale`), positive along the move.
  package func amplitude(_ frames: [Frame]) -> Float {
    let track = CameraEstimator.track(frames)
    return switch self {
    case .camera(let move): track.amplitude(move)
    case .object: track.objectAmplitude
    }
  }
}
