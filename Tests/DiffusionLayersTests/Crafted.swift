import DiffusionLayers
import Glibc

/// A folder for one test, removed with its content when the value goes.
final class TemporaryFolder {
  let path: String

  init() {
    var template = Array("/tmp/videolora-test-XXXXXX".utf8CString)
    path = template.withUnsafeMutableBufferPointer { buffer in
      guard let start = buffer.baseAddress, let made = mkdtemp(start) else { return "/nonexistent" }
      return String(cString: made)
    }
  }

  deinit { Self.remove(path) }

  /// Writes a file below the folder, making the folders on its way, and returns its full path.
  @discardableResult
  func write(_ bytes: [UInt8], to name: String) throws -> String {
    var folder = path
    for part in name.split(separator: "/").dropLast() {
      folder += "/" + part
      mkdir(folder, 0o755)
    }
    try AtomicFile.write(bytes, to: "\(path)/\(name)")
    return "\(path)/\(name)"
  }

  @discardableResult
  func write(_ text: String, to name: String) throws -> String { try write(Array(text.utf8), to: name) }

  /// Names of the files directly in the folder.
  var files: [String] { Self.list(path) }

  /// Names in a folder, sorted; empty when there is none.
  static func list(_ folder: String) -> [String] { folderEntries(folder) ?? [] }

  private static func remove(_ path: String) {
    for name in list(path) {
      let child = "\(path)/\(name)"
      if unlink(child) != 0 { remove(child) }
    }
    rmdir(path)
  }
}

/// A safetensors file from the text of its header.
func crafted(_ header: String, data: Int = 0) -> [UInt8] {
  crafted(Array(header.utf8), data: [UInt8](repeating: 0, count: data))
}

func crafted(_ header: [UInt8], data: [UInt8]) -> [UInt8] {
  littleEndian(UInt64(header.count)) + header + data
}

func littleEndian<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
  withUnsafeBytes(of: value.littleEndian) { Array($0) }
}

/// A source in memory named `f`.
func memory(_ bytes: [UInt8]) -> ByteSource { .memory(name: "f", bytes: bytes) }

/// The bytes that a writer would put into a file.
func serialized(_ writer: SafetensorsWriter) throws -> [UInt8] {
  let folder = TemporaryFolder()
  let path = folder.path + "/x.safetensors"
  try writer.write(to: path)
  let source = try ByteSource.open(path)
  return try source.bytes(0..<source.count)
}

/// A small repeatable sequence of numbers (SplitMix64).
struct Sequence64: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}
