import DiffusionLayers
import DiffusionPipelines
import TensorCore

/// Where clips go: frames one by one, a label after each clip. Nothing has its final name before `finish`.
protocol ClipSink: AnyObject {
  func append(_ frame: Frame) throws
  func endClip(_ label: JSONObject) throws
  func finish() throws
}

/// What an output path stands for, by its ending.
enum ClipFormat: Sendable {
  case safetensors, y4m, folder

  /// nil for an ending that is another file format.
  init?(output path: String) {
    let name = path.split(separator: "/").last.map(String.init) ?? ""
    if name.hasSuffix(".safetensors") {
      self = .safetensors
    } else if name.hasSuffix(".y4m") {
      self = .y4m
    } else if !name.isEmpty, !name.dropFirst().contains(".") {
      self = .folder
    } else {
      return nil
    }
  }

  static let rule = "must end in .safetensors or .y4m, or name a folder for PNGs (no dot in its name)"

  func open(_ path: String, rate: FrameRate) throws -> any ClipSink {
    switch self {
    case .safetensors: SafetensorsSink(path)
    case .y4m: try Y4MSink(path, rate: rate)
    case .folder: try PNGFolderSink(path)
    }
  }
}

/// A tensor `frames`, uint8 [N, F, H, W, 3], and the metadata entry `labels`, a JSON list with one object per clip.
final class SafetensorsSink: ClipSink {
  private let path: String
  private var bytes: [UInt8] = []
  private var labels: [JSONValue] = []
  private var size: (width: Int, height: Int)?
  private var framesInClip = 0
  private var framesPerClip: Int?

  init(_ path: String) { self.path = path }

  func append(_ frame: Frame) throws {
    if let size, size != (frame.width, frame.height) {
      throw CLIError("'\(path)' cannot hold frames of different sizes; write one file per size")
    }
    size = (frame.width, frame.height)
    bytes += frame.pixels
    framesInClip += 1
  }

  func endClip(_ label: JSONObject) throws {
    if let framesPerClip, framesPerClip != framesInClip {
      throw CLIError(
        "'\(path)' cannot hold clips of \(framesPerClip) and of \(framesInClip) frames; write two files")
    }
    framesPerClip = framesInClip
    framesInClip = 0
    labels.append(.object(label))
  }

  func finish() throws {
    guard let size, let framesPerClip else { throw CLIError("there is no frame to write to '\(path)'") }
    var writer = SafetensorsWriter(metadata: [
      ("format", "pt"), ("labels", JSONValue.array(labels).description),
    ])
    writer.add(
      "frames", bytes: bytes, dtype: .uint8, shape: [labels.count, framesPerClip, size.height, size.width, 3])
    try writer.write(to: path)
  }
}

/// A raw video file; clips follow each other.
final class Y4MSink: ClipSink {
  private let path: String
  private let rate: FrameRate
  private var file: AtomicFile?
  private var format: Y4MFormat?

  init(_ path: String, rate: FrameRate) throws {
    self.path = path
    self.rate = rate
    file = try AtomicFile(path)
  }

  func append(_ frame: Frame) throws {
    if let format, (format.width, format.height) != (frame.width, frame.height) {
      throw CLIError("'\(path)' cannot hold frames of different sizes; write one file per size")
    }
    if format == nil {
      let new = Y4MFormat(width: frame.width, height: frame.height, rate: rate)
      format = new
      try file?.write(Array(new.header.utf8))
    }
    try file?.write(Array("FRAME\n".utf8) + (format?.encode(frame) ?? []))
  }

  func endClip(_ label: JSONObject) throws {}

  func finish() throws {
    guard format != nil, let file = file.take() else {
      throw CLIError("there is no frame to write to '\(path)'")
    }
    try file.commit()
  }
}
