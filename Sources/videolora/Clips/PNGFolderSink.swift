import DiffusionLayers
import DiffusionPipelines
import Glibc

/// A folder of `0000.png`, …, or with several clips `clip_0000/0000.png`, …, and `labels.json`. It is filled under a
/// temporary name.
final class PNGFolderSink: ClipSink {
  private let path: String
  private let temporary: String
  private var clips: [[String]] = [[]]
  private var labels: [JSONValue] = []
  private var isDone = false

  init(_ path: String) throws {
    self.path = path.hasSuffix("/") ? String(path.dropLast()) : path
    temporary = "\(self.path).\(getpid()).tmp"
    guard access(self.path, F_OK) != 0 else {
      throw CLIError("the output folder '\(self.path)' exists; remove it or name another")
    }
    guard mkdir(temporary, 0o777) == 0 else {
      throw CLIError("cannot make the output folder '\(self.path)': \(String(cString: strerror(errno)))")
    }
  }

  deinit {
    guard !isDone else { return }
    for clip in clips { for file in clip { unlink("\(temporary)/\(file)") } }
    for index in clips.indices { rmdir("\(temporary)/\(Self.clipName(index))") }
    unlink("\(temporary)/labels.json")
    rmdir(temporary)
  }

  func append(_ frame: Frame) throws {
    // All clips get a folder of their own until it is known that there is only one.
    let clip = clips.count - 1
    if clips[clip].isEmpty { mkdir("\(temporary)/\(Self.clipName(clip))", 0o777) }
    let name = "\(Self.clipName(clip))/\(Self.fourDigits(clips[clip].count)).png"
    clips[clip].append(name)
    try AtomicFile.write(PNG.encode(frame), to: "\(temporary)/\(name)")
  }

  func endClip(_ label: JSONObject) throws {
    labels.append(.object(label))
    clips.append([])
  }

  func finish() throws {
    if labels.count == 1 {
      let folder = Self.clipName(0)
      for file in clips[0] {
        rename("\(temporary)/\(file)", "\(temporary)/\(file.dropFirst(folder.count + 1))")
      }
      rmdir("\(temporary)/\(folder)")
    }
    try AtomicFile.write(
      Array((JSONValue.array(labels).serialized(pretty: true) + "\n").utf8), to: "\(temporary)/labels.json")
    guard rename(temporary, path) == 0 else {
      throw CLIError("cannot write the folder '\(path)': \(String(cString: strerror(errno))); name another")
    }
    isDone = true
  }

  private static func clipName(_ index: Int) -> String { "clip_" + fourDigits(index) }

  private static func fourDigits(_ number: Int) -> String {
    let digits = "\(number)"
    return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
  }
}
