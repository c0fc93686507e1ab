import Glibc

/// The files of one model: a folder in diffusers' layout, or a model built into the program (`builtin:nano`).
public struct ModelDirectory: Sendable {
  /// The folder or builtin name as the user gave it.
  public let path: String
  private let builtin: String?

  public init(_ path: String) throws(WeightsError) {
    self.path = path
    builtin = BuiltinFiles.name(of: path)
    if let builtin {
      guard BuiltinFiles.models.contains(builtin) else {
        throw .unknownBuiltin(name: builtin, known: BuiltinFiles.models)
      }
      return
    }
    var status = stat()
    guard !path.isEmpty, !path.utf8.contains(0), stat(path, &status) == 0 else { throw .notFound(file: path) }
    if status.st_mode & S_IFMT != S_IFDIR { throw Self.notAFolder(try WeightFile(path)) }
  }

  /// The error for a file given in place of a folder: say what it is where that is recognised.
  private static func notAFolder(_ file: WeightFile) -> WeightsError {
    let source = ByteSource.file(file)
    if let head = try? source.bytes(0..<min(512, source.count)), let format = ForeignFormat(head: head) {
      return .foreign(file: file.path, format: format)
    }
    return .unreadable(
      file: file.path,
      reason: "a model is a folder with a model_index.json or a .safetensors file, and this is neither")
  }

  /// Whether the folder has this file, for example `transformer/config.json`.
  public func exists(_ name: String) -> Bool {
    guard (try? checked(name)) != nil else { return false }
    if let builtin { return BuiltinFiles.find("\(builtin)/\(name)") != nil }
    return access(location(of: name), F_OK) == 0
  }

  /// Names of the folder's own files that end in `suffix`, sorted; none for a builtin model.
  public func files(endingWith suffix: String) -> [String] {
    guard builtin == nil else { return [] }
    return (folderEntries(path) ?? []).filter { $0.hasSuffix(suffix) && !$0.hasPrefix(".") }
  }

  /// Opens a file of the folder. Absolute names and names with `..` are refused.
  public func source(_ name: String) throws(WeightsError) -> ByteSource {
    try checked(name)
    guard let builtin else { return .file(try WeightFile(location(of: name))) }
    guard let file = BuiltinFiles.find("\(builtin)/\(name)") else {
      throw .notFound(file: location(of: name))
    }
    return .embedded(file)
  }

  /// Reads a small file whole; one above `limit` bytes is refused unread.
  public func read(_ name: String, limit: Int = 64 << 20) throws(WeightsError) -> [UInt8] {
    let source = try source(name)
    if source.count > limit { throw .fileTooLarge(file: source.name, bytes: source.count, limit: limit) }
    return try source.bytes(0..<source.count)
  }

  /// Reads a JSON file whose top level is an object, such as a `config.json`.
  public func json(_ name: String) throws(WeightsError) -> JSONObject {
    let value: JSONValue
    let bytes = try read(name)
    do {
      value = try JSONValue.parse(bytes, file: location(of: name))
    } catch {
      if let format = ForeignFormat(head: Array(bytes.prefix(512))), format != .json {
        throw .foreign(file: location(of: name), format: format)
      }
      throw .json(error)
    }
    guard let object = value.object else {
      throw .unreadable(file: location(of: name), reason: "its top level must be a JSON object")
    }
    return object
  }

  /// The full path of a file, for messages.
  public func location(of name: String) -> String { path.hasSuffix("/") ? path + name : "\(path)/\(name)" }

  @discardableResult
  private func checked(_ name: String) throws(WeightsError) -> String {
    guard Self.isInside(name) else { throw .unsafeName(file: path, name: name) }
    return name
  }

  /// Whether a name stays inside the folder: not absolute, no empty, `.` or `..` part, no NUL.
  static func isInside(_ name: String) -> Bool {
    !name.utf8.contains(0)
      && name.split(separator: "/", omittingEmptySubsequences: false)
        .allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." }
  }
}
