import DiffusionLayers
package import DiffusionPipelines

/// The clips of a folder, in the order of their names, with their labels. Opening reads headers and labels only; pixels
/// are read when they are asked for, and no file stays open.
///
/// A clip is `<name>.safetensors` (a tensor `frames`, uint8 [F, H, W, 3], or [N, F, H, W, 3] for N clips), `<name>.y4m`,
/// or a folder of PNG pictures in the order of their names; with a decoder also a video. Pictures that lie in the folder itself are photos,
/// clips of one frame each, unless a `labels.json` beside them says that they are one clip. Labels come from
/// `<name>.json`, then `<name>.txt` (a caption), then from the entry `labels` of the clip's own file. A single
/// `.safetensors` or `.y4m` file in place of the folder counts as a folder that holds it.
package struct ClipDataset: Sendable {
  /// Whether all clips must be of one width and height.
  package enum Sizes: Sendable { case equal, any }

  package struct Clip: Sendable {
    /// The file's name without its ending, and the clip's number where the file holds several.
    package let name: String
    package let frames: Int
    package let width: Int
    package let height: Int
    package let label: ClipLabel
    let source: ClipStorage
    /// Where the clip is as it was before, of the same size and length.
    var before: ClipStorage?
  }

  package let folder: String
  package private(set) var clips: [Clip]
  /// Frames of a training sample, the first ones of each clip; 0 for all.
  package private(set) var length = 0

  /// Opens a folder.
  /// - Throws: one error, naming the file, for the first clip that cannot be used.
  /// - Parameter media: reads videos and photos that are no PNG; nil refuses them.
  package init(_ folder: String, sizes: Sizes = .equal, media: (any MediaDecoder)? = nil) throws(DatasetError)
  {
    self.folder = folder
    clips = try DatasetScan(folder, media: media).clips()
    guard let first = clips.first else { throw .empty(folder: folder) }
    guard sizes == .equal else { return }
    for clip in clips where clip.width != first.width || clip.height != first.height {
      throw .sizes(
        first: first.source.path, firstSize: "\(first.width)x\(first.height)", file: clip.source.path,
        size: "\(clip.width)x\(clip.height)")
    }
  }

  package var count: Int { clips.count }

  /// These clips as samples of `frames` frames, the first ones of each; 0 takes all, which must then be equally many.
  /// - Throws: `DatasetError` naming a clip that is too short or of another length.
  package func cut(to frames: Int) throws(DatasetError) -> ClipDataset {
    if frames > 0 {
      try require(frames: frames)
    } else {
      for clip in clips where clip.frames != clips[0].frames {
        throw .lengths(
          first: clips[0].source.path, firstFrames: clips[0].frames, file: clip.source.path,
          frames: clip.frames)
      }
    }
    var result = self
    result.length = frames
    return result
  }

  /// These clips with those of equal names of another folder as their sources.
  /// - Throws: `DatasetError` for a clip without partner, or with one of another size or length.
  package func paired(with other: ClipDataset) throws(DatasetError) -> ClipDataset {
    let partners = Dictionary(other.clips.map { ($0.name, $0) }) { first, _ in first }
    var result = self
    for (index, clip) in clips.enumerated() {
      guard let partner = partners[clip.name] else {
        throw .partner(
          file: clip.source.path, reason: "has no clip '\(clip.name)' in --source '\(other.folder)'; add it")
      }
      guard partner.width == clip.width, partner.height == clip.height, partner.frames == clip.frames else {
        throw .partner(
          file: clip.source.path,
          reason: "is \(clip.frames) frames \(clip.width)x\(clip.height) and its source "
            + "'\(partner.source.path)' \(partner.frames) frames \(partner.width)x\(partner.height); make both alike"
        )
      }
      result.clips[index].before = partner.source
    }
    return result
  }

  /// Throws unless every clip has at least so many frames.
  package func require(frames: Int) throws(DatasetError) {
    for clip in clips where clip.frames < frames {
      throw .tooShort(file: clip.source.path, frames: clip.frames, needed: frames)
    }
  }

  /// Throws unless every clip has a caption.
  package func requireCaptions() throws(DatasetError) {
    for clip in clips where clip.label.caption == nil {
      throw .unlabelled(file: clip.source.path, key: "caption")
    }
  }

  /// Reads frames of a clip.
  /// - Parameter range: which ones; nil for all.
  package func frames(_ index: Int, _ range: Range<Int>? = nil) throws(DatasetError) -> [Frame] {
    let clip = clips[index]
    return try clip.source.frames(range ?? 0..<clip.frames, of: clip)
  }

  /// Reads frames of a clip's source; nil without one.
  package func source(_ index: Int, _ range: Range<Int>? = nil) throws(DatasetError) -> [Frame]? {
    let clip = clips[index]
    return try clip.before?.frames(range ?? 0..<clip.frames, of: clip)
  }
}

/// Where a clip's pixels are.
enum ClipStorage: Sendable {
  /// `start` is where the clip's first byte lies in the file.
  case safetensors(path: String, start: Int)
  case y4m(path: String)
  case pictures(path: String, files: [String])
  case media(path: String, decoder: any MediaDecoder)

  var path: String {
    switch self {
    case .safetensors(let path, _), .y4m(let path), .pictures(let path, _), .media(let path, _): path
    }
  }

  func frames(_ range: Range<Int>, of clip: ClipDataset.Clip) throws(DatasetError) -> [Frame] {
    let result = Result { try read(range, of: clip) }
    switch result {
    case .success(let frames): return frames
    case .failure(let error as DatasetError): throw error
    case .failure(let error): throw .unreadable(file: path, reason: "\(error)")
    }
  }

  private func read(_ range: Range<Int>, of clip: ClipDataset.Clip) throws -> [Frame] {
    switch self {
    case .safetensors(let path, let start):
      let size = clip.height * clip.width * 3
      let bytes = try ByteSource.open(path).bytes(
        (start + range.lowerBound * size)..<(start + range.upperBound * size))
      return range.indices.map { frame in
        let start = (frame - range.lowerBound) * size
        return Frame(width: clip.width, height: clip.height, pixels: Array(bytes[start..<(start + size)]))
      }
    case .y4m(let path):
      let file = try Y4MClip(path)
      return try range.map { try file.frame($0, clip: 0) }
    case .media(let path, let decoder):
      let file = try decoder.open(path, frames: clip.frames)
      return try range.map { index in
        let frame = try file.frame(index, clip: 0)
        guard frame.width == clip.width, frame.height == clip.height else {
          throw ClipError(
            "frame \(index) is \(frame.width)x\(frame.height), the first \(clip.width)x\(clip.height)")
        }
        return frame
      }
    case .pictures(let path, let files):
      return try range.map { index in
        let frame = try PNGReader.read(try ByteSource.open(files[index]))
        guard frame.width == clip.width, frame.height == clip.height else {
          throw DatasetError.sizes(
            first: path, firstSize: "\(clip.width)x\(clip.height)", file: files[index],
            size: "\(frame.width)x\(frame.height)")
        }
        return frame
      }
    }
  }
}
