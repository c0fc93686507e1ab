import Glibc

/// An open regular file, read by position only. It is never mapped: a mapped file that someone shortens would
/// end the process with SIGBUS, a read only comes back short.
public final class WeightFile: Sendable {
  /// The path as it was given.
  public let path: String
  /// The file's length when it was opened.
  public let size: Int
  private let descriptor: Int32

  public init(_ path: String) throws(WeightsError) {
    guard !path.utf8.contains(0) else { throw .notFound(file: path) }
    // Looking first keeps devices from being opened at all; O_NONBLOCK keeps a FIFO from blocking in between.
    var status = stat()
    guard stat(path, &status) == 0 else { throw Self.openError(path, errno) }
    try Self.requireRegular(status, path)
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
    guard descriptor >= 0 else { throw Self.openError(path, errno) }
    guard fstat(descriptor, &status) == 0 else {
      let error = Self.openError(path, errno)
      close(descriptor)
      throw error
    }
    do throws(WeightsError) {
      try Self.requireRegular(status, path)
    } catch {
      close(descriptor)
      throw error
    }
    self.path = path
    self.descriptor = descriptor
    size = Int(status.st_size)
  }

  deinit { close(descriptor) }

  /// Fills `destination` with the bytes from `offset` on; the range must lie inside `size`.
  func read(at offset: Int, into destination: UnsafeMutableRawBufferPointer) throws(WeightsError) {
    var done = 0
    while done < destination.count {
      guard let start = destination.baseAddress else { return }
      let got = pread(descriptor, start + done, destination.count - done, off_t(offset + done))
      if got < 0 {
        if errno == EINTR { continue }
        throw .unreadable(file: path, reason: systemMessage(errno))
      }
      if got == 0 { throw .shrank(file: path, expected: size, found: offset + done) }
      done += got
    }
  }

  private static func requireRegular(_ status: stat, _ path: String) throws(WeightsError) {
    let kind: String
    switch status.st_mode & S_IFMT {
    case S_IFREG: return
    case S_IFDIR: kind = "a folder"
    case S_IFIFO: kind = "a FIFO"
    case S_IFSOCK: kind = "a socket"
    default: kind = "a device"
    }
    throw .notARegularFile(file: path, kind: kind)
  }

  private static func openError(_ path: String, _ code: Int32) -> WeightsError {
    code == ENOENT || code == ENOTDIR
      ? .notFound(file: path) : .unreadable(file: path, reason: systemMessage(code))
  }
}

/// Constant bytes of the program itself.
///
/// `@unchecked Sendable`: the pointer leads to read-only data that lives as long as the process.
public struct EmbeddedFile: @unchecked Sendable {
  /// The name in messages, such as `builtin:nano/model_index.json`.
  public let name: String
  let bytes: UnsafeRawBufferPointer
}

/// The system's text for an error number.
func systemMessage(_ code: Int32) -> String {
  guard let text = strerror(code) else { return "error \(code)" }
  return String(cString: text)
}
