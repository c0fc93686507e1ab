package import DiffusionLayers
import TensorCore

/// Clips to transform, read frame by frame.
package protocol ClipSource {
  var clips: Int { get }
  /// Frames of every clip.
  var frames: Int { get }
  /// nil when the file does not say.
  var rate: FrameRate? { get }
  /// The label of a clip, empty when there is none.
  func label(_ clip: Int) -> JSONObject
  func frame(_ index: Int, clip: Int) throws -> Frame
}

/// Decodes the files that the engine has no reader for: videos, photos.
package protocol MediaDecoder: Sendable {
  /// - Parameter frames: how many the file has, when that is known; else they are counted.
  func open(_ path: String, frames: Int?) throws -> any ClipSource
}

/// Opens an input by its ending; others than the engine's own go to the decoder.
package func openClips(_ path: String, media: any MediaDecoder) throws -> any ClipSource {
  if path.hasSuffix(".safetensors") { return try SafetensorsClips(path) }
  if path.hasSuffix(".y4m") { return try Y4MClip(path) }
  return try media.open(path, frames: nil)
}

/// A tensor `frames`: uint8 [F, H, W, 3] or [N, F, H, W, 3], or floats [N, 3, F, H, W] in [-1, 1].
package struct SafetensorsClips: ClipSource {
  package let clips: Int
  package let frames: Int
  package let rate: FrameRate? = nil
  private let height: Int
  private let width: Int
  private let bytes: [UInt8]
  private let labels: [JSONValue]

  package init(_ path: String) throws {
    let file = try SafetensorsFile(path: path)
    guard let entry = file.entries["frames"] else {
      throw ClipError("'\(path)' has no tensor 'frames'; a clip file holds uint8 frames [N, F, H, W, 3]")
    }
    let shape = entry.shape
    if entry.dtype == .uint8, shape.count == 4 || shape.count == 5, shape.last == 3 {
      let full = shape.count == 4 ? [1] + shape : shape
      (clips, frames, height, width) = (full[0], full[1], full[2], full[3])
      bytes = try file.bytes("frames")
    } else if entry.dtype == .float32 || entry.dtype == .float16, shape.count == 5, shape[1] == 3 {
      (clips, frames, height, width) = (shape[0], shape[2], shape[3], shape[4])
      bytes = try file.load("frames").permuted([0, 2, 3, 4, 1]).array().map {
        UInt8(max(0, min(255, (($0 + 1) * 127.5).rounded())))
      }
    } else {
      throw ClipError(
        "'\(path)': 'frames' is \(entry.dtype) \(shape); give uint8 [N, F, H, W, 3] or floats [N, 3, F, H, W]"
      )
    }
    guard bytes.count > 0 else { throw ClipError("'\(path)': 'frames' is empty; give at least one frame") }
    labels = try file.metadata("labels").map { try JSONValue.parse($0, file: path).array ?? [] } ?? []
  }

  package func label(_ clip: Int) -> JSONObject {
    (clip < labels.count ? labels[clip].object : nil) ?? JSONObject()
  }

  package func frame(_ index: Int, clip: Int) -> Frame {
    let size = height * width * 3
    let start = (clip * frames + index) * size
    return Frame(width: width, height: height, pixels: Array(bytes[start..<(start + size)]))
  }
}

/// One clip in a raw video file; frames are read when they are asked for.
package struct Y4MClip: ClipSource {
  package let clips = 1
  private let source: ByteSource
  private let format: Y4MFormat
  private let offsets: [Int]

  package init(_ path: String) throws {
    source = try ByteSource.open(path)
    guard let (header, start) = try Self.line(source, at: 0) else {
      throw ClipError("'\(path)' is no y4m file; it must start with a line YUV4MPEG2 …")
    }
    format = try Y4MFormat(line: header, file: path)
    var offsets: [Int] = []
    var position = start
    while position < source.count {
      guard let (mark, data) = try Self.line(source, at: position), mark.hasPrefix("FRAME"),
        source.count - data >= format.frameBytes
      else { throw ClipError("'\(path)' is damaged: frame \(offsets.count) is cut off or has no FRAME line") }
      offsets.append(data)
      position = data + format.frameBytes
    }
    guard !offsets.isEmpty else { throw ClipError("'\(path)' has no frame") }
    self.offsets = offsets
  }

  package var frames: Int { offsets.count }
  package var width: Int { format.width }
  package var height: Int { format.height }
  package var rate: FrameRate? { format.rate }

  package func label(_ clip: Int) -> JSONObject { JSONObject() }

  package func frame(_ index: Int, clip: Int) throws -> Frame {
    format.decode(try source.bytes(offsets[index]..<(offsets[index] + format.frameBytes)))
  }

  /// The line at a position and where the next one starts; nil when there is no line end within 256 bytes.
  private static func line(_ source: ByteSource, at start: Int) throws -> (String, Int)? {
    let bytes = try source.bytes(start..<min(source.count, start + 256))
    guard let end = bytes.firstIndex(of: UInt8(ascii: "\n")) else { return nil }
    return (String(decoding: bytes[..<end], as: UTF8.self), start + end + 1)
  }
}
