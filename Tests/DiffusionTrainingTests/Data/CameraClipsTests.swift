import DiffusionLayers
import DiffusionPipelines
import DiffusionTraining
import TestSupport
import Testing

/// Camera clips as a source of training data.
@Suite struct CameraClipsTests {
  @Test func photosBecomeLabelledClips() throws {
    let folder = try ClipDatasetTests.Folder()
    try folder.write("a.png", PNG.encode(CameraAugmentationTests.photo(1, width: 80, height: 60)))
    try folder.write("a.txt", "a field")
    try folder.write("b.png", PNG.encode(CameraAugmentationTests.photo(2, width: 64, height: 96)))
    let source = CameraClips(
      try ClipDataset(folder.path, sizes: .any),
      CameraAugmentation(frames: 6, width: 32, height: 24, travel: .amplitudes(0...1, zeroShare: 0.1)),
      wording: .sentence)
    #expect(source.count == 2)
    let first = try source.clip(0, draw: 5)
    let again = try source.clip(0, draw: 5)
    #expect(first.frames == again.frames && first.label == again.label)
    #expect(first.frames.count == 6 && first.frames[0].width == 32 && first.frames[0].height == 24)
    let labels = try (0..<40).map { try source.clip(0, draw: UInt64($0)).label }
    #expect(Set(labels.compactMap(\.camera)).count == 8)
    #expect(labels.allSatisfy { $0.role == "camera" && $0.className == $0.camera && $0.amplitude != nil })
    #expect(labels.contains { $0.amplitude == 0 })
    let named = labels.count { $0.caption?.hasPrefix("a field, the camera ") == true }
    #expect((8...32).contains(named) && labels.count { $0.caption == "a field" } == 40 - named)
  }
}
