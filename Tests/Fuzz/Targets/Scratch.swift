import DiffusionLayers
import Glibc

/// A folder in memory for targets whose readers want files; removed when the process ends in order.
enum Scratch {
  static let folder: String = {
    var template = Array(
      "\(access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp")/videolora-fuzz-XXXXXX".utf8CString)
    let path = template.withUnsafeMutableBufferPointer { buffer in
      buffer.baseAddress.flatMap { mkdtemp($0) }.map { String(cString: $0) }
    }
    guard let path else { fatalError("no folder for scratch files can be made") }
    atexit { Scratch.remove(Scratch.folder) }
    return path
  }()

  /// Writes a file below the folder, making the folders on its way.
  static func write(_ bytes: [UInt8], to name: String) {
    var path = folder
    for part in name.split(separator: "/").dropLast() {
      path += "/" + part
      mkdir(path, 0o755)
    }
    let descriptor = open("\(folder)/\(name)", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    var done = 0
    while descriptor >= 0, done < bytes.count {
      let count = bytes[done...].withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if count <= 0 { break }
      done += count
    }
    guard descriptor >= 0, done == bytes.count else {
      fatalError("the scratch file \(name) cannot be written")
    }
    close(descriptor)
  }

  private static func remove(_ path: String) {
    for name in folderEntries(path) ?? [] { remove("\(path)/\(name)") }
    if unlink(path) != 0 { rmdir(path) }
  }
}

/// The repository's files that targets start from.
enum Repository {
  static let root: String = {
    let path = #filePath  // …/Tests/Fuzz/Targets/Scratch.swift
    return path.split(separator: "/").dropLast(4).reduce("") { $0 + "/" + $1 }
  }()

  static func read(_ name: String) -> [UInt8] {
    do {
      let source = try ByteSource.open("\(root)/\(name)")
      return try source.bytes(0..<source.count)
    } catch {
      fatalError("\(error)")
    }
  }
}
