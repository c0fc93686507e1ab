import DiffusionLayers
import DiffusionPipelines

/// Clips of a folder at another pace each time one is asked for: from one clip of steady motion every amplitude from
/// standing still to its whole way (methods 1.4).
package struct PacedClips: TrainingData {
  package let sources: ClipDataset
  package let frames: Int
  /// Of every frame, in steps of 8-bit colour; see `CameraAugmentation.sensorNoise`.
  package let sensorNoise: Float

  /// - Parameter staticCamera: whether clips whose camera moves are an error: what is learned then is the motion of
  ///   things alone.
  /// - Throws: `DatasetError` for a clip that is too short, cannot be read, or whose camera moves.
  package init(
    _ sources: ClipDataset, frames: Int, sensorNoise: Float = 1, staticCamera: Bool = true
  ) throws(DatasetError) {
    (self.sources, self.frames, self.sensorNoise) = (sources, frames, sensorNoise)
    try sources.require(frames: frames)
    guard staticCamera else { return }
    for index in sources.clips.indices {
      let speed = CameraEstimator.track(try sources.frames(index)).backgroundSpeed
      guard speed < 0.2 else {
        throw .unsupported(
          file: sources.clips[index].source.path,
          reason:
            "its background moves by \(speed) pixels a frame; clips for --moves pace need a camera at rest")
      }
    }
  }

  package var count: Int { sources.count }
  package var isFixed: Bool { false }

  package func sample(_ index: Int, draw: UInt64) throws -> TrainingSample {
    let clip = sources.clips[index]
    let (pictures, amplitude) = TimeResampling.clip(
      try sources.frames(index), frames: frames, index: index, seed: draw, sensorNoise: sensorNoise)
    var label = clip.label.object
    label["amplitude"] = .number(Double(amplitude))
    return TrainingSample(
      name: clip.name, frames: pictures, caption: clip.label.caption ?? "", label: label)
  }
}
