import CBuiltinModels

/// The files built into the program: the default model, its adapters and a tokenizer (see CBuiltinModels).
public enum BuiltinFiles {
  /// Names of the builtin models, as in `builtin:nano`.
  public static var models: [String] {
    unique(paths.compactMap { path in path.firstIndex(of: "/").map { String(path[..<$0]) } })
      .filter { $0 != "adapters" && $0 != "tokenizers" }
  }

  /// Names of the builtin adapters, as in `builtin:ink`.
  public static var adapters: [String] {
    paths.compactMap { path in
      guard path.hasPrefix("adapters/"), path.hasSuffix(".safetensors") else { return nil }
      return String(path.dropFirst("adapters/".count).dropLast(".safetensors".count))
    }
  }

  /// The NAME of `builtin:NAME`, or nil for an ordinary path.
  package static func name(of path: String) -> String? {
    path.hasPrefix("builtin:") ? String(path.dropFirst("builtin:".count)) : nil
  }

  /// The merges of CLIP's byte-pair encoding, for checkpoints that come without a tokenizer.
  package static func clipMerges() throws(WeightsError) -> [UInt8] {
    let path = "tokenizers/clip/merges.txt"
    guard let file = find(path) else { throw .notFound(file: "builtin:" + path) }
    let source = ByteSource.embedded(file)
    return try source.bytes(0..<source.count)
  }

  static func adapter(_ name: String) throws(WeightsError) -> ByteSource {
    guard let file = find("adapters/\(name).safetensors") else {
      throw .unknownBuiltin(name: name, known: adapters)
    }
    return .embedded(file)
  }

  /// The embedded file of this path, such as `nano/model_index.json`.
  package static func find(_ path: String) -> EmbeddedFile? {
    for index in 0..<videolora_builtin_count() {
      let entry = videolora_builtin_at(index)
      guard let name = entry.name, let data = entry.data, path == String(cString: name) else { continue }
      return EmbeddedFile(
        name: "builtin:" + path, bytes: UnsafeRawBufferPointer(start: data, count: entry.size))
    }
    return nil
  }

  /// Every embedded path, sorted.
  package static var paths: [String] {
    (0..<videolora_builtin_count()).compactMap { index in
      videolora_builtin_at(index).name.map { String(cString: $0) }
    }
  }

  private static func unique(_ names: [String]) -> [String] {
    names.reduce(into: []) { result, name in if result.last != name { result.append(name) } }
  }
}
