import DiffusionLayers
import DiffusionPipelines

extension ClipDataset: TrainingData {
  package var isFixed: Bool { true }

  /// All frames of a clip.
  package func sample(_ index: Int, draw: UInt64) throws -> TrainingSample {
    let clip = clips[index]
    return TrainingSample(
      name: clip.name, frames: try frames(index), caption: clip.label.caption ?? "", label: clip.label.object)
  }
}

extension CameraClips: TrainingData {
  package var isFixed: Bool { false }

  package func sample(_ index: Int, draw: UInt64) throws -> TrainingSample {
    let (frames, label) = try clip(index, draw: draw)
    return TrainingSample(
      name: sources.clips[index].name, frames: frames, caption: label.caption ?? "", label: label.object)
  }
}
