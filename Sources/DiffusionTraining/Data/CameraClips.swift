import DiffusionLayers
package import DiffusionPipelines

/// Clips with a known camera motion, made anew from the photos or clips of a folder each time one is asked for.
package struct CameraClips: Sendable {
  /// How a caption names the move.
  package enum Wording: Sendable {
    /// Not at all.
    case none
    /// As one word of a tag table: `pan_left`.
    case tag
    /// As a sentence: `the camera pans left`.
    case sentence
  }

  package let sources: ClipDataset
  package let augmentation: CameraAugmentation
  package let wording: Wording
  /// Share of the clips whose caption names the move: with 1, text alone could carry the amplitude's sign.
  package let wordingShare: Float

  package init(
    _ sources: ClipDataset, _ augmentation: CameraAugmentation, wording: Wording = .none,
    wordingShare: Float = 0.5
  ) {
    self.sources = sources
    self.augmentation = augmentation
    self.wording = wording
    self.wordingShare = wordingShare
  }

  /// Number of sources.
  package var count: Int { sources.count }

  /// A clip from source `index`; equal draws give equal bytes.
  /// - Returns: the frames, and a label with `caption`, `camera`, `class`, `role` and `amplitude`.
  /// - Throws: `DatasetError` for a source that cannot be read.
  package func clip(_ index: Int, draw: UInt64) throws(DatasetError) -> (frames: [Frame], label: ClipLabel) {
    var random = SampleRandom(seed: draw, index: index)
    let clip = augmentation.clip(try sources.frames(index), index: index, seed: random.next())
    var object = sources.clips[index].label.object
    let isNamed = wording != .none && random.uniform() < wordingShare
    if isNamed {
      let words = wording == .tag ? clip.move.rawValue : Self.sentence(clip.move)
      switch object["caption"] {
      case .array(let list)?: object["caption"] = .array(list + [.string(words)])
      case .string(let text)? where !text.isEmpty:
        object["caption"] = .string(text + (wording == .tag ? " " : ", ") + words)
      default: object["caption"] = .string(words)
      }
    }
    object["camera"] = .string(clip.move.rawValue)
    object["class"] = .string(clip.move.rawValue)
    object["role"] = "camera"
    // What a measurement may overshoot by rounding is no other label than 1.
    object["amplitude"] = .number(Double(max(0, min(1, clip.amplitude))))
    return (clip.frames, try ClipLabel(object, file: sources.clips[index].name, clip: ""))
  }

  private static func sentence(_ move: CameraMove) -> String {
    switch move {
    case .panLeft: "the camera pans left"
    case .panRight: "the camera pans right"
    case .tiltUp: "the camera tilts up"
    case .tiltDown: "the camera tilts down"
    case .zoomIn: "the camera zooms in"
    case .zoomOut: "the camera zooms out"
    case .rollClockwise: "the camera rolls clockwise"
    case .rollCounterclockwise: "the camera rolls counterclockwise"
    }
  }
}
