public import DiffusionLayers
import Glibc

/// A folder of files for one test, removed when the value goes.
public final class TemporaryModel {
  public let path: String
  private var files: [String] = []

  /// - Parameter files: contents by names such as `vae/config.json`.
  public init(_ files: [String: [UInt8]] = [:]) {
    var template = Array("/tmp/videolora-model-XXXXXX".utf8CString)
    path = template.withUnsafeMutableBufferPointer { buffer in
      guard let start = buffer.baseAddress, let made = mkdtemp(start) else { return "/nonexistent" }
      return String(cString: made)
    }
    for (name, bytes) in files { write(bytes, to: name) }
  }

  /// A copy of a fixture's folder.
  public convenience init(copying fixture: String) throws {
    let directory = try ModelDirectory(Fixture.path(fixture))
    var files: [String: [UInt8]] = [:]
    for entry in folderEntries(directory.path) ?? [] {
      let inside = directory.files(below: entry)
      for name in inside.isEmpty ? [entry] : inside { files[name] = try directory.read(name) }
    }
    self.init(files)
  }

  deinit {
    for name in files.reversed() {
      var path = "\(self.path)/\(name)"
      unlink(path)
      while let slash = path.lastIndex(of: "/"), slash != path.startIndex {
        path = String(path[..<slash])
        if path == self.path || rmdir(path) != 0 { break }
      }
    }
    rmdir(path)
  }

  /// Writes a file and the folders on its way; one that is there already is replaced.
  public func write(_ bytes: [UInt8], to name: String) {
    var folder = path
    for part in name.split(separator: "/").dropLast() {
      folder += "/" + part
      mkdir(folder, 0o755)
    }
    guard let file = fopen("\(path)/\(name)", "w") else { return }
    fwrite(bytes, 1, bytes.count, file)
    fclose(file)
    files.append(name)
  }

  public func remove(_ name: String) { unlink("\(path)/\(name)") }

  /// Reads a file of the folder as JSON, lets `change` edit it and writes it back.
  public func edit(_ name: String, _ change: (inout JSONObject) -> Void) throws {
    var json = try ModelDirectory(path).json(name)
    change(&json)
    write(Array(JSONValue.object(json).serialized().utf8), to: name)
  }
}
