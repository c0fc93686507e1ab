public import DiffusionLayers

/// The naming of a Stable Diffusion UNet's tensors in a file: diffusers', or that of single-file checkpoints.
public struct UNetKeyNaming: Sendable, Equatable {
  /// Whether the names are those of Stable Diffusion's own repository.
  public let isOriginal: Bool
  /// What stands before every name, such as `model.diffusion_model.`.
  public let prefix: String

  private static let prefixes = ["model.diffusion_model.", "", "unet.", "diffusion_model.", "model."]

  /// The naming of a file with these tensors, nil when it holds no such UNet.
  public static func detect(_ names: some Sequence<String>) -> UNetKeyNaming? {
    let names = Set(names)
    for prefix in prefixes {
      if names.contains(prefix + "input_blocks.0.0.weight"), names.contains(prefix + "out.2.weight") {
        return UNetKeyNaming(isOriginal: true, prefix: prefix)
      }
      if names.contains(prefix + "conv_in.weight"), names.contains(prefix + "time_embedding.linear_1.weight"),
        names.contains(prefix + "down_blocks.0.resnets.0.conv1.weight")
      {
        return UNetKeyNaming(isOriginal: false, prefix: prefix)
      }
    }
    return nil
  }

  /// The UNet's tensors alone, under diffusers' names.
  /// - Throws: `ConfigError` for tensors that mark another kind of model, such as SDXL.
  public func renamed(_ source: any WeightSource) throws(ConfigError) -> any WeightSource {
    var stored: [String: String] = [:]
    for name in source.names where name.hasPrefix(prefix) {
      let rest = String(name.dropFirst(prefix.utf8.count))
      if rest.hasPrefix("label_emb.") || rest.hasPrefix("add_embedding.") {
        throw ConfigError(
          file: source.name, key: name,
          reason: "marks a Stable Diffusion XL checkpoint; motion modules are for Stable Diffusion 1.5")
      }
      if let diffusers = isOriginal ? LDMNames.diffusers(rest) : rest { stored[diffusers] = name }
    }
    return RenamedSource(source, stored: stored)
  }
}

/// The naming of the tensors of motion modules in a file: diffusers' `MotionAdapter`, or the official repository's.
public struct MotionModuleNaming: Sendable, Equatable {
  /// Whether the names are those of the official repository.
  public let isOriginal: Bool
  /// What stands before every name, such as `module.`.
  public let prefix: String

  /// The naming of a file with these tensors, nil when it holds no motion modules.
  public static func detect(_ names: some Sequence<String>) -> MotionModuleNaming? {
    for name in names {
      guard let place = name.firstRange(of: ".motion_modules."),
        name.hasSuffix(".norm1.weight") || name.hasSuffix(".norms.0.weight")
      else { continue }
      let blocks = ["down_blocks.", "up_blocks.", "mid_block."]
      guard let start = blocks.compactMap({ name.firstRange(of: $0)?.lowerBound }).min(),
        start < place.lowerBound
      else { continue }
      return MotionModuleNaming(
        isOriginal: name.contains(".temporal_transformer."), prefix: String(name[..<start]))
    }
    return nil
  }

  /// The motion modules' tensors alone, under diffusers' names and without their tables of positions, which are computed.
  /// - Throws: `ConfigError` for tensors that mark another kind of adapter.
  public func renamed(_ source: any WeightSource) throws(ConfigError) -> any WeightSource {
    var stored: [String: String] = [:]
    for name in source.names where name.hasPrefix(prefix) {
      let rest = String(name.dropFirst(prefix.utf8.count))
      guard rest.contains("motion_modules.") else { continue }
      guard !Self.isPosition(rest) else { continue }
      if let diffusers = isOriginal ? Self.diffusers(rest) : rest { stored[diffusers] = name }
    }
    return RenamedSource(source, stored: stored)
  }

  /// Frames that the file has positions for, nil where it has none.
  func frames(of source: any WeightSource) -> Int? {
    let name = source.names.first {
      $0.hasPrefix(prefix) && $0.contains("motion_modules.") && Self.isPosition($0)
    }
    guard let name, let shape = source.shape(of: name), shape.count == 3, shape[0] == 1 else { return nil }
    return shape[1]
  }

  private static func isPosition(_ name: String) -> Bool {
    name.hasSuffix(".pos_encoder.pe") || name.hasSuffix(".pos_embed.pe")
  }

  /// diffusers' name of the official repository's.
  private static func diffusers(_ name: String) -> String? {
    guard name.contains(".temporal_transformer.") else { return nil }
    var name = name.replacing(".temporal_transformer.", with: ".")
    for (original, renamed) in [
      (".attention_blocks.0.", ".attn1."), (".attention_blocks.1.", ".attn2."), (".norms.0.", ".norm1."),
      (".norms.1.", ".norm2."), (".ff_norm.", ".norm3."),
    ] {
      name = name.replacing(original, with: renamed)
    }
    return name
  }
}
