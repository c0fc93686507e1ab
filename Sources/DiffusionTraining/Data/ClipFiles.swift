import DiffusionLayers
import DiffusionPipelines
import Glibc
import TensorCore

/// The `.safetensors` clips of a folder: `frames` uint8 `[F, H, W, 3]` or `[N, F, H, W, 3]` with the metadata entry
/// `labels` (a JSON list with an object for each clip: `caption`, `camera`, `amplitude`, …).
public struct ClipFiles: TrainingData {
  private struct Clip {
    let file: Int
    let index: Int
    let label: JSONObject
  }
  private struct Pixels {
    let name: String
    let frames: Int
    let height: Int
    let width: Int
    let bytes: [UInt8]
  }

  private let files: [Pixels]
  private let clips: [Clip]
  public var count: Int { clips.count }
  public var isFixed: Bool { true }

  /// Reads a folder of clips, or one file.
  /// - Parameter frames: frames of a sample; 0 takes all, which must then be equally many in every clip.
  /// - Throws: `TrainingError` for a folder without clips, a file that is none, or clips of different sizes.
  public init(_ path: String, frames wanted: Int = 0) throws {
    var files: [Pixels] = []
    var clips: [Clip] = []
    for name in try Self.names(path) {
      let (pixels, labels, count) = try Self.read(name, frames: wanted)
      if let first = files.first,
        (first.width, first.height, first.frames) != (pixels.width, pixels.height, pixels.frames)
      {
        throw TrainingError.clipSize(
          file: name, found: Self.size(pixels), first: first.name, expected: Self.size(first))
      }
      for index in 0..<count {
        let label = index < labels.count ? labels[index].object ?? JSONObject() : JSONObject()
        clips.append(Clip(file: files.count, index: index, label: label))
      }
      files.append(pixels)
    }
    self.files = files
    self.clips = clips
  }

  public func sample(_ index: Int, draw: UInt64) throws -> TrainingSample {
    let clip = clips[index]
    let file = files[clip.file]
    let size = file.height * file.width * 3
    let frames = (0..<file.frames).map { frame in
      let start = (clip.index * file.frames + frame) * size
      return Frame(width: file.width, height: file.height, pixels: Array(file.bytes[start..<start + size]))
    }
    let words = clip.label["caption"]
    return TrainingSample(
      name: "\(file.name), clip \(clip.index)", frames: frames,
      caption: words?.string ?? (words?.array ?? []).compactMap(\.string).joined(separator: " "),
      label: clip.label)
  }

  private static func size(_ pixels: Pixels) -> String {
    "\(pixels.frames) frames \(pixels.width)x\(pixels.height)"
  }

  /// The files in the order of their names.
  private static func names(_ path: String) throws(TrainingError) -> [String] {
    if path.hasSuffix(".safetensors") { return [path] }
    guard let entries = folderEntries(path) else {
      throw .data(path: path, reason: "cannot be opened: \(String(cString: strerror(errno)))")
    }
    let names = entries.filter { $0.hasSuffix(".safetensors") && !$0.hasPrefix(".") }.map { "\(path)/\($0)" }
    guard !names.isEmpty else {
      throw .data(path: path, reason: "holds no clip; put .safetensors files with a tensor 'frames' there")
    }
    return names
  }

  private static func read(_ path: String, frames wanted: Int) throws -> (Pixels, [JSONValue], Int) {
    let file = try SafetensorsFile(path: path)
    guard let entry = file.entries["frames"], entry.dtype == .uint8, (4...5).contains(entry.shape.count),
      entry.shape.last == 3, entry.shape.reduce(1, *) > 0
    else {
      throw TrainingError.data(
        path: path, reason: "is no clip; it needs a tensor 'frames', uint8 [F, H, W, 3] or [N, F, H, W, 3]")
    }
    let shape = entry.shape.count == 4 ? [1] + entry.shape : entry.shape
    let frames = wanted > 0 ? wanted : shape[1]
    guard frames <= shape[1] else {
      throw TrainingError.data(path: path, reason: "has \(shape[1]) frames and \(wanted) are asked for")
    }
    var bytes = try file.bytes("frames")
    let clip = shape[1] * shape[2] * shape[3] * 3
    if frames < shape[1] {
      let kept = frames * shape[2] * shape[3] * 3
      bytes = (0..<shape[0]).flatMap { bytes[$0 * clip..<$0 * clip + kept] }
    }
    let labels = try file.metadata("labels").map { try JSONValue.parse($0, file: path).array ?? [] } ?? []
    return (
      Pixels(name: path, frames: frames, height: shape[2], width: shape[3], bytes: bytes), labels, shape[0]
    )
  }
}
