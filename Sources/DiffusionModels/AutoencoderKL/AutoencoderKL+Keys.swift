public import DiffusionLayers

// Stable Diffusion's own checkpoints name the tensors of the autoencoder otherwise than diffusers does, and diffusers
// named those of the attention otherwise until 2023; most files of Stable Diffusion 1.5 have one of these namings.

/// The namings of Stable Diffusion's autoencoder.
public enum AutoencoderKLNaming {
  /// What stands before the names in a checkpoint that holds the other models too.
  static let prefixes = ["first_stage_model.", ""]

  /// What stands before the names of an autoencoder in the original naming, nil where there is none.
  public static func originalPrefix(_ source: any WeightSource) -> String? {
    prefixes.first {
      source.contains("\($0)decoder.mid.block_1.conv1.weight")
        && source.contains("\($0)encoder.conv_in.weight")
    }
  }

  /// The source under diffusers' names of today.
  public static func renamed(_ source: any WeightSource) -> any WeightSource {
    var stored: [String: String] = [:]
    if let prefix = originalPrefix(source) {
      let levels = levels(source, prefix)
      for name in source.names where name.hasPrefix(prefix) {
        if let wanted = diffusersName(of: String(name.dropFirst(prefix.utf8.count)), levels: levels) {
          stored[wanted] = name
        }
      }
      return RenamedSource(source, stored: stored)
    }
    guard source.names.contains(where: { $0.hasSuffix(".query.weight") || $0.hasSuffix(".proj_attn.weight") })
    else { return source }
    for name in source.names { stored[replacing(name, olderAttention)] = name }
    return RenamedSource(source, stored: stored)
  }

  /// Levels of the decoder, which the original naming counts from full resolution.
  private static func levels(_ source: any WeightSource, _ prefix: String) -> Int {
    var levels = 0
    while levels < 16, source.contains("\(prefix)decoder.up.\(levels).block.0.conv1.weight") { levels += 1 }
    return levels
  }

  /// Parts of the names of diffusers before 2023 and what they are now.
  private static let olderAttention = [
    (".query.", ".to_q."), (".key.", ".to_k."), (".value.", ".to_v."), (".proj_attn.", ".to_out.0."),
  ]

  /// Parts of an attention's and of a residual block's original names.
  private static let originalAttention = [
    ("norm.", "group_norm."), ("q.", "to_q."), ("k.", "to_k."), ("v.", "to_v."), ("proj_out.", "to_out.0."),
  ]

  /// diffusers' name of an original one; nil for a tensor that has none.
  private static func diffusersName(of name: String, levels: Int) -> String? {
    let parts = name.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    guard let side = parts.first, side == "encoder" || side == "decoder" else { return name }
    let rest = Array(parts.dropFirst())
    let leaf = { (from: Int) in
      replacing(rest.dropFirst(from).joined(separator: "."), [("nin_shortcut.", "conv_shortcut.")])
    }
    switch rest.first {
    case "norm_out": return "\(side).conv_norm_out." + leaf(1)
    case "mid" where rest.count > 2:
      switch rest[1] {
      case "block_1": return "\(side).mid_block.resnets.0." + leaf(2)
      case "block_2": return "\(side).mid_block.resnets.1." + leaf(2)
      case "attn_1":
        let tail = leaf(2)
        guard let (old, new) = originalAttention.first(where: { tail.hasPrefix($0.0) }) else { return nil }
        return "\(side).mid_block.attentions.0." + new + tail.dropFirst(old.utf8.count)
      default: return nil
      }
    case "down" where rest.count > 3:
      if rest[2] == "block" { return "\(side).down_blocks.\(rest[1]).resnets." + leaf(3) }
      return rest[2] == "downsample" ? "\(side).down_blocks.\(rest[1]).downsamplers.0." + leaf(3) : nil
    case "up" where rest.count > 3:
      guard let level = Int(rest[1]), level < levels else { return nil }
      let block = "\(side).up_blocks.\(levels - 1 - level)"
      if rest[2] == "block" { return "\(block).resnets." + leaf(3) }
      return rest[2] == "upsample" ? "\(block).upsamplers.0." + leaf(3) : nil
    default: return name
    }
  }

  /// The text with the first of these that it holds replaced once.
  private static func replacing(_ text: String, _ table: [(old: String, new: String)]) -> String {
    for (old, new) in table {
      if let range = text.firstRange(of: old) {
        return String(text[..<range.lowerBound]) + new + text[range.upperBound...]
      }
    }
    return text
  }
}
