import DiffusionLayers
import DiffusionPipelines
import Glibc
import TensorCore

/// Finds the clips of a folder and reads their headers and labels.
struct DatasetScan {
  private let folder: String
  private let names: [String]
  private let media: (any MediaDecoder)?

  private static let mediaEndings = [".jpg", ".jpeg", ".webp", ".mp4", ".webm", ".mkv", ".mov", ".avi"]
  static let clipLimit = 1_000_000

  init(_ folder: String, media: (any MediaDecoder)?) throws(DatasetError) {
    self.media = media
    var status = stat()
    guard !folder.utf8.contains(0), stat(folder, &status) == 0 else { throw .notAFolder(path: folder) }
    if status.st_mode & S_IFMT == S_IFDIR {
      self.folder = folder
      names = Self.list(folder)
      return
    }
    guard ([".safetensors", ".y4m"] + Self.mediaEndings).contains(where: folder.hasSuffix) else {
      throw .notAFolder(path: folder)
    }
    // One file is a folder that holds it and what says more about it.
    let slash = folder.lastIndex(of: "/")
    self.folder = slash.map { String(folder[...$0]) } ?? "."
    let name = slash.map { String(folder[folder.index(after: $0)...]) } ?? folder
    let own = [name, Self.stem(name) + ".json", Self.stem(name) + ".txt"]
    names = Self.list(self.folder).filter(own.contains)
  }

  func clips() throws(DatasetError) -> [ClipDataset.Clip] {
    let folders = names.filter { Self.isFolder(path($0)) && !Self.pictures(path($0)).isEmpty }
    let shared = try sharedLabels(folders)
    var clips: [ClipDataset.Clip] = []
    var owners: [String: String] = [:]
    for name in names {
      let found: [ClipDataset.Clip]
      let stem = Self.stem(name)
      if let place = folders.firstIndex(of: name) {
        found = [try pictureClip(name, label: shared?[place])]
      } else if name.hasSuffix(".safetensors") {
        found = try tensorClips(name)
      } else if name.hasSuffix(".y4m") {
        found = [try rawClip(name)]
      } else if name.hasSuffix(".png"), !isOneClip(folders) {
        found = [try photo(name)]
      } else if Self.mediaEndings.contains(where: name.hasSuffix) {
        found = [try mediaClip(name)]
      } else {
        continue
      }
      if let other = owners.updateValue(name, forKey: stem) {
        throw .sameName(first: path(other), second: path(name))
      }
      clips += found
      guard clips.count <= Self.clipLimit else { throw .tooManyClips(folder: folder, limit: Self.clipLimit) }
    }
    if isOneClip(folders) { clips.append(try ownClip()) }
    return clips
  }

  // MARK: Kinds of clips

  private func tensorClips(_ name: String) throws(DatasetError) -> [ClipDataset.Clip] {
    let path = path(name)
    let file: SafetensorsFile
    do { file = try SafetensorsFile(path: path) } catch {
      throw .unreadable(file: path, reason: error.description)
    }
    guard let entry = file.entries["frames"] else {
      throw .unsupported(file: path, reason: "it has no tensor 'frames'; give uint8 frames [F, H, W, 3]")
    }
    let shape = entry.shape.count == 4 ? [1] + entry.shape : entry.shape
    guard entry.dtype == .uint8, shape.count == 5, shape[4] == 3, shape.allSatisfy({ $0 > 0 }),
      shape[2] <= 16384, shape[3] <= 16384
    else {
      throw .unsupported(
        file: path,
        reason: "'frames' is \(entry.dtype) \(entry.shape); give uint8 [F, H, W, 3] or [N, F, H, W, 3]")
    }
    guard shape[0] <= Self.clipLimit else { throw .tooManyClips(folder: folder, limit: Self.clipLimit) }
    var own: [ClipLabel]?
    if let text = file.metadata("labels") {
      own = try Self.labels(
        Result { try JSONValue.parse(text, file: path) }, file: path, count: shape[0])
    }
    let stem = Self.stem(name)
    let beside = try sidecar(stem)
    let size = shape[1...].reduce(1, *)
    let before = file.entries["source"]
    if let before, before.dtype != .uint8 || before.shape != entry.shape {
      throw .partner(
        file: path,
        reason: "has 'frames' \(entry.dtype) \(entry.shape) and 'source' \(before.dtype) \(before.shape); "
          + "both must be uint8 of one shape")
    }
    return (0..<shape[0]).map { number in
      let label = own?[number] ?? ClipLabel()
      return ClipDataset.Clip(
        name: shape[0] == 1 ? stem : "\(stem)#\(number)", frames: shape[1], width: shape[3],
        height: shape[2], label: beside?.completed(by: label) ?? label,
        source: .safetensors(path: path, start: entry.range.lowerBound + number * size),
        before: before.map { .safetensors(path: path, start: $0.range.lowerBound + number * size) })
    }
  }

  private func rawClip(_ name: String) throws(DatasetError) -> ClipDataset.Clip {
    let path = path(name)
    switch Result(catching: { try Y4MClip(path) }) {
    case .failure(let error): throw .unreadable(file: path, reason: "\(error)")
    case .success(let clip):
      return ClipDataset.Clip(
        name: Self.stem(name), frames: clip.frames, width: clip.width, height: clip.height,
        label: try sidecar(Self.stem(name)) ?? ClipLabel(), source: .y4m(path: path))
    }
  }

  private func mediaClip(_ name: String) throws(DatasetError) -> ClipDataset.Clip {
    let path = path(name)
    guard let media else {
      throw .unsupported(
        file: path, reason: "give .safetensors, .y4m or .png; gst-launch-1.0 with pngenc or y4menc converts")
    }
    switch Result(catching: { () throws -> (Int, Frame) in
      let file = try media.open(path, frames: nil)
      return (file.frames, try file.frame(0, clip: 0))
    }) {
    case .failure(let error): throw .unreadable(file: path, reason: "\(error)")
    case .success(let (frames, first)):
      return ClipDataset.Clip(
        name: Self.stem(name), frames: frames, width: first.width, height: first.height,
        label: try sidecar(Self.stem(name)) ?? ClipLabel(), source: .media(path: path, decoder: media))
    }
  }

  private func pictureClip(_ name: String, label shared: ClipLabel?) throws(DatasetError) -> ClipDataset.Clip
  {
    let inside = path(name)
    let own = try ownLabel(inside)
    let label = (own ?? ClipLabel()).completed(by: shared ?? ClipLabel())
    return try pictures(
      name, inside, Self.pictures(inside).map { "\(inside)/\($0)" },
      try sidecar(name)?.completed(by: label) ?? label)
  }

  private func photo(_ name: String) throws(DatasetError) -> ClipDataset.Clip {
    let stem = Self.stem(name)
    return try pictures(stem, path(name), [path(name)], try sidecar(stem) ?? ClipLabel())
  }

  /// Whether the folder itself is one clip, as the command line writes one.
  private func isOneClip(_ folders: [String]) -> Bool {
    folders.isEmpty && names.contains("labels.json") && names.contains { $0.hasSuffix(".png") }
  }

  private func ownClip() throws(DatasetError) -> ClipDataset.Clip {
    let name = folder.split(separator: "/").last.map(String.init) ?? folder
    return try pictures(
      name, folder, Self.pictures(folder).map { path($0) }, try ownLabel(folder) ?? ClipLabel())
  }

  private func pictures(_ name: String, _ path: String, _ files: [String], _ label: ClipLabel)
    throws(DatasetError) -> ClipDataset.Clip
  {
    switch Result(catching: { try PNGReader.size(try ByteSource.open(files[0])) }) {
    case .failure(let error): throw .unreadable(file: files[0], reason: "\(error)")
    case .success(let size):
      return ClipDataset.Clip(
        name: name, frames: files.count, width: size.width, height: size.height, label: label,
        source: .pictures(path: path, files: files))
    }
  }

  // MARK: Labels

  /// `labels.json` of the folder itself, when its clips are folders of pictures: a list with one entry for each.
  private func sharedLabels(_ folders: [String]) throws(DatasetError) -> [ClipLabel]? {
    guard !folders.isEmpty, names.contains("labels.json") else { return nil }
    let file = path("labels.json")
    return try Self.labels(Result { try Self.json(file) }, file: file, count: folders.count)
  }

  /// `labels.json` inside a folder of pictures.
  private func ownLabel(_ inside: String) throws(DatasetError) -> ClipLabel? {
    let file = "\(inside)/labels.json"
    guard access(file, F_OK) == 0 else { return nil }
    return try Self.labels(Result { try Self.json(file) }, file: file, count: 1)[0]
  }

  /// `<name>.json`, completed by the caption in `<name>.txt`.
  private func sidecar(_ stem: String) throws(DatasetError) -> ClipLabel? {
    var label: ClipLabel?
    if names.contains(stem + ".json") {
      let file = path(stem + ".json")
      switch Result(catching: { try Self.json(file) }) {
      case .failure(let error): throw .label(file: file, reason: "\(error)")
      case .success(let value):
        guard let object = value.object else {
          throw .label(file: file, reason: "its top level must be an object")
        }
        label = try ClipLabel(object, file: file, clip: "")
      }
    }
    if names.contains(stem + ".txt") {
      let file = path(stem + ".txt")
      switch Result(catching: { try Self.text(file) }) {
      case .failure(let error): throw .label(file: file, reason: "\(error)")
      case .success(let text):
        var caption = ClipLabel()
        caption.caption = text
        caption.object["caption"] = .string(text)
        label = label?.completed(by: caption) ?? caption
      }
    }
    return label
  }

  private static func labels(_ text: Result<JSONValue, any Error>, file: String, count: Int)
    throws(DatasetError) -> [ClipLabel]
  {
    let value: JSONValue
    switch text {
    case .failure(let error): throw .label(file: file, reason: "\(error)")
    case .success(let found): value = found
    }
    let list = value.object.map { [JSONValue.object($0)] } ?? value.array
    guard let list else { throw .label(file: file, reason: "'labels' must be a list of objects") }
    guard list.count == count else {
      throw .label(file: file, reason: "\(list.count) labels for \(count) clips")
    }
    var labels: [ClipLabel] = []
    for (index, entry) in list.enumerated() {
      guard let object = entry.object else {
        throw .label(file: file, reason: "entry \(index) must be an object")
      }
      labels.append(try ClipLabel(object, file: file, clip: count == 1 ? "" : "entry \(index): "))
    }
    return labels
  }

  // MARK: Files

  private func path(_ name: String) -> String { folder.hasSuffix("/") ? folder + name : "\(folder)/\(name)" }

  private static func stem(_ name: String) -> String {
    for ending in [".safetensors", ".y4m", ".png"] + mediaEndings where name.hasSuffix(ending) {
      return String(name.dropLast(ending.count))
    }
    return name
  }

  private static func isFolder(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
  }

  private static func pictures(_ folder: String) -> [String] { list(folder).filter { $0.hasSuffix(".png") } }

  private static func list(_ folder: String) -> [String] {
    (folderEntries(folder) ?? []).filter { !$0.hasPrefix(".") }
  }

  private static func json(_ file: String) throws -> JSONValue {
    try JSONValue.parse(try bytes(file), file: file)
  }

  private static func text(_ file: String) throws -> String {
    let bytes = try bytes(file)
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw ClipError("'\(file)' is no UTF-8 text")
    }
    let trimmed = text.drop { $0.isWhitespace }
    return String(
      trimmed[..<(trimmed.lastIndex { !$0.isWhitespace }.map(trimmed.index(after:)) ?? trimmed.startIndex)])
  }

  private static func bytes(_ file: String) throws -> [UInt8] {
    let source = try ByteSource.open(file)
    guard source.count <= 64 << 20 else { throw ClipError("'\(file)' is larger than 64 MiB") }
    return try source.bytes(0..<source.count)
  }
}
