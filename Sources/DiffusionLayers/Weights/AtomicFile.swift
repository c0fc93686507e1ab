import Glibc
import Synchronization

/// Writes a file so that it appears whole or not at all: into a temporary file of the same folder, then
/// fsync, then rename over the target. A failure leaves the old file untouched and removes the temporary one.
public struct AtomicFile: ~Copyable {
  private let path: String
  private let temporary: String
  private let descriptor: Int32
  private var isOpen = true

  /// Creates the temporary file beside `path`.
  public init(_ path: String) throws(WeightsError) {
    guard !path.isEmpty, !path.utf8.contains(0) else {
      throw .unwritable(file: path, reason: "it is not a file name")
    }
    let number = Self.counter.add(1, ordering: .relaxed).newValue
    let temporary = "\(path).\(getpid()).\(number).tmp"
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw .unwritable(file: path, reason: systemMessage(errno)) }
    self.path = path
    self.temporary = temporary
    self.descriptor = descriptor
  }

  deinit {
    if isOpen {
      close(descriptor)
      unlink(temporary)
    }
  }

  /// Appends bytes.
  public mutating func write(_ bytes: UnsafeRawBufferPointer) throws(WeightsError) {
    var done = 0
    while done < bytes.count, let start = bytes.baseAddress {
      let count = Glibc.write(descriptor, start + done, bytes.count - done)
      if count < 0 {
        if errno == EINTR { continue }
        throw .unwritable(file: path, reason: systemMessage(errno))
      }
      done += count
    }
  }

  /// Appends bytes.
  public mutating func write(_ bytes: [UInt8]) throws(WeightsError) {
    var failure: WeightsError?
    bytes.withUnsafeBytes { raw in
      do throws(WeightsError) { try write(raw) } catch { failure = error }
    }
    if let failure { throw failure }
  }

  /// Makes the file durable and gives it its name.
  public consuming func commit() throws(WeightsError) {
    guard fsync(descriptor) == 0 else { throw .unwritable(file: path, reason: systemMessage(errno)) }
    guard rename(temporary, path) == 0 else { throw .unwritable(file: path, reason: systemMessage(errno)) }
    close(descriptor)
    isOpen = false
    // The new name is durable once the folder is; a file system that cannot do this has nothing better to
    // offer.
    let folder = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    let directory = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    if directory >= 0 {
      fsync(directory)
      close(directory)
    }
  }

  /// Writes a whole file at once.
  public static func write(_ bytes: [UInt8], to path: String) throws(WeightsError) {
    var file = try AtomicFile(path)
    try file.write(bytes)
    try file.commit()
  }

  private static let counter = Atomic<UInt64>(0)
}
