import Glibc

/// Makes a folder that appears whole or not at all: it is filled under another name beside its place, and renamed.
/// A failure removes what was written.
package struct AtomicFolder: ~Copyable {
  /// Where the files go meanwhile.
  package let temporary: String
  private let path: String
  private var isOpen = true

  /// - Throws: where something of that name exists already.
  package init(_ path: String) throws(WeightsError) {
    let path = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
    guard !path.isEmpty, !path.utf8.contains(0) else {
      throw .unwritable(file: path, reason: "it is not a folder name")
    }
    var status = stat()
    guard lstat(path, &status) != 0 else {
      throw .unwritable(file: path, reason: "it exists already; name a folder that does not")
    }
    let temporary = "\(path).\(getpid()).tmp"
    guard mkdir(temporary, 0o777) == 0 else { throw .unwritable(file: path, reason: systemMessage(errno)) }
    (self.path, self.temporary) = (path, temporary)
  }

  deinit { if isOpen { Self.remove(temporary, depth: 10) } }

  /// Full path of a file inside; makes the folders on its way.
  package func place(_ name: String) throws(WeightsError) -> String {
    var folder = temporary
    for part in name.split(separator: "/").dropLast() {
      folder += "/\(part)"
      guard mkdir(folder, 0o777) == 0 || errno == EEXIST else {
        throw .unwritable(file: folder, reason: systemMessage(errno))
      }
    }
    return "\(temporary)/\(name)"
  }

  /// Copies a file of any size.
  package func copy(_ source: ByteSource, to name: String) throws(WeightsError) {
    var file = try AtomicFile(try place(name))
    let piece = 4 << 20
    var at = 0
    while at < source.count {
      let end = min(source.count, at + piece)
      try file.write(try source.bytes(at..<end))
      at = end
    }
    try file.commit()
  }

  /// Gives the folder its name.
  package consuming func commit() throws(WeightsError) {
    guard rename(temporary, path) == 0 else { throw .unwritable(file: path, reason: systemMessage(errno)) }
    isOpen = false
  }

  private static func remove(_ path: String, depth: Int) {
    guard depth > 0, unlink(path) != 0 else { return }
    for name in folderEntries(path) ?? [] { remove("\(path)/\(name)", depth: depth - 1) }
    rmdir(path)
  }
}
