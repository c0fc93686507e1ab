import DiffusionLayers
import DiffusionPipelines
import GStreamerKit

/// Videos and photos by whatever decoders GStreamer has here.
struct GStreamerDecoder: MediaDecoder {
  func open(_ path: String, frames: Int?) throws -> any ClipSource { try MediaClip(path, frames: frames) }
}

/// One video, or one photo. Frames asked for in order are decoded once; going back starts the file anew.
final class MediaClip: ClipSource {
  let clips = 1
  let frames: Int
  let rate: FrameRate?
  private let path: String
  private var reader: MediaReader
  /// Of the picture that `reader` gives next.
  private var position = 0
  private var last: Frame?

  /// - Throws: `MediaError`, `ClipError` naming the file.
  init(_ path: String, frames: Int?) throws {
    self.path = path
    reader = try MediaReader(path)
    if let frames {
      (self.frames, rate) = (frames, nil)
      return
    }
    var count = 0
    while try reader.next() != nil { count += 1 }
    guard count > 0 else { throw ClipError("'\(path)' has no picture") }
    self.frames = count
    rate = reader.rate.map { FrameRate($0.numerator, $0.denominator) }
    reader = try MediaReader(path)
  }

  func label(_ clip: Int) -> JSONObject { JSONObject() }

  func frame(_ index: Int, clip: Int) throws -> Frame {
    if index < position - 1 { (reader, position, last) = (try MediaReader(path), 0, nil) }
    while position <= index {
      guard let picture = try reader.next() else { throw ClipError("'\(path)' ended before frame \(index)") }
      last = Frame(width: picture.width, height: picture.height, pixels: picture.pixels)
      position += 1
    }
    guard let last else { throw ClipError("'\(path)' has no frame \(index)") }
    return last
  }
}
