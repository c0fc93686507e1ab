public import DiffusionLayers

/// How a file names the tensors of a CLIP text encoder.
public enum CLIPKeyNaming {
  /// What stands before the names: nothing in files of transformers 5, `text_model.` in older ones, and more in
  /// checkpoints of Stable Diffusion that hold the other models too.
  private static let prefixes = ["", "text_model.", "cond_stage_model.transformer.text_model."]

  /// A tensor that tells an encoder.
  private static let mark = "encoder.layers.0.self_attn.q_proj.weight"

  /// What stands before the names of a file's encoder, nil when it holds none.
  public static func prefix(_ source: any WeightSource) -> String? {
    prefixes.first { source.contains($0 + mark) }
  }

  /// The path that adapters know the encoder's modules by, from that of the model.
  public static let adapterPrefix = "text_model."

  /// The source under the names that `CLIPTextModel` asks for.
  /// - Throws: `ConfigError` when the file holds no such encoder.
  public static func renamed(_ source: any WeightSource) throws(ConfigError) -> any WeightSource {
    guard let prefix = prefix(source) else {
      throw ConfigError(
        file: source.name, key: "text_model." + mark,
        reason: "is missing; this file holds no CLIP text encoder of Stable Diffusion 1.x")
    }
    var stored: [String: String] = [:]
    for name in source.names where name.hasPrefix(prefix) {
      let wanted = String(name.dropFirst(prefix.utf8.count))
      // A table of numbers 0, 1, … that older versions of transformers stored.
      if !wanted.hasSuffix("position_ids") { stored[adapterPrefix + wanted] = name }
    }
    return RenamedSource(source, stored: stored)
  }
}
