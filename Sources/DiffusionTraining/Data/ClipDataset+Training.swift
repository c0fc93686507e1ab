package import DiffusionLayers
import DiffusionPipelines

extension ClipDataset: TrainingData {
  package var isFixed: Bool { true }

  package func label(_ index: Int) -> (name: String, label: JSONObject)? {
    (clips[index].source.path, clips[index].label.object)
  }

  package func hasSource(_ index: Int) -> Bool { clips[index].before != nil }

  /// The frames of a clip, or the first `length` of them.
  package func sample(_ index: Int, draw: UInt64) throws -> TrainingSample {
    let clip = clips[index]
    let range = length > 0 ? 0..<length : nil
    var sample = TrainingSample(
      name: clip.name, frames: try frames(index, range), caption: clip.label.caption ?? "",
      label: clip.label.object)
    sample.source = try source(index, range) ?? []
    return sample
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
