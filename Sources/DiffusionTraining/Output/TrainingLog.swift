import DiffusionLayers
import Glibc

/// A log of JSON lines, one per step, appended as the training goes.
final class TrainingLog {
  private let descriptor: Int32
  private let path: String

  /// Opens the log. Lines of steps after `step` are left over from a run that was resumed before them and go.
  init(_ path: String, after step: Int) throws {
    self.path = path
    var kept: [UInt8] = []
    if step > 0, let source = try? ByteSource.open(path), let bytes = try? source.bytes(0..<source.count) {
      for line in bytes.split(separator: UInt8(ascii: "\n")) {
        guard let number = try? JSONValue.parse(Array(line)).object?["step"]?.int, number <= step else {
          continue
        }
        kept += line + [UInt8(ascii: "\n")]
      }
    }
    try AtomicFile.write(kept, to: path)
    descriptor = open(path, O_WRONLY | O_APPEND | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw WeightsError.unwritable(file: path, reason: String(cString: strerror(errno)))
    }
  }

  deinit { close(descriptor) }

  /// Appends one object.
  func write(_ object: JSONObject) throws {
    let line = JSONValue.object(object).serialized() + "\n"
    let count = line.utf8.count
    let written = line.withCString { Glibc.write(descriptor, $0, count) }
    guard written == count else {
      throw WeightsError.unwritable(
        file: path, reason: written < 0 ? String(cString: strerror(errno)) : "the disk is full")
    }
  }
}
