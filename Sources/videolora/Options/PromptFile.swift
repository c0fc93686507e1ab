import DiffusionLayers

/// One clip to generate: its text, its seed, and what its label repeats.
struct ClipRequest: Sendable {
  /// Words of the text; nil leaves the prompt to the settings.
  var caption: [String]?
  var noiseSeed: UInt64
  var label: JSONObject
}

/// A list of captions with a noise seed each: `[{"caption": ["disc", "flat"], "noise_seed": 7}, …]`.
enum PromptFile {
  static func read(_ path: String) throws -> [ClipRequest] {
    let source = try ByteSource.open(path)
    guard source.count <= 64 << 20 else {
      throw CLIError("--prompts '\(path)' is larger than 64 MiB; split it")
    }
    let json = try JSONValue.parse(try source.bytes(0..<source.count), file: path)
    guard let list = json.array, !list.isEmpty else {
      throw CLIError("--prompts '\(path)' must be a JSON list of objects with caption and noise_seed")
    }
    return try list.enumerated().map { index, entry in
      guard let object = entry.object, let caption = try words(object["caption"]) else {
        throw CLIError("--prompts '\(path)': entry \(index) has no caption; give a list of words")
      }
      guard let seed = object["noise_seed"]?.int, seed >= 0 else {
        throw CLIError("--prompts '\(path)': entry \(index) has no noise_seed; give a whole number from 0 on")
      }
      return ClipRequest(caption: caption, noiseSeed: UInt64(seed), label: object)
    }
  }

  private static func words(_ value: JSONValue?) throws -> [String]? {
    if let text = value?.string { return text.split(separator: " ").map(String.init) }
    guard let list = value?.array else { return nil }
    let words = list.compactMap(\.string)
    return words.count == list.count ? words : nil
  }
}
