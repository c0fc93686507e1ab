/// The names that Stable Diffusion's own repository (CompVis, "latent diffusion") gives to the parts of its UNet, as
/// single-file checkpoints and some adapters have them: `input_blocks.1.1.transformer_blocks.0.attn1.to_q` is diffusers'
/// `down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q`.
///
/// Numbers follow SD1.5's plan of two layers and a sampler per block.
package enum LDMNames {
  private static let perBlock = 3

  /// diffusers' name of a module or tensor of the UNet, nil for one that is none of its parts.
  /// - Parameter separator: `.`, or `_` in names that spell dots so.
  package static func diffusers(_ name: some StringProtocol, separator: Character = ".") -> String? {
    let separator = String(separator)
    func join(_ parts: String...) -> String { parts.joined(separator: separator) }
    func rest(_ start: String) -> Substring? {
      name.hasPrefix(start + separator) ? Substring(name.dropFirst(start.count + separator.count)) : nil
    }
    for (original, renamed) in [
      (join("time_embed", "0"), join("time_embedding", "linear_1")),
      (join("time_embed", "2"), join("time_embedding", "linear_2")),
      (join("input_blocks", "0", "0"), "conv_in"), (join("out", "0"), "conv_norm_out"),
      (join("out", "2"), "conv_out"),
    ] {
      if name == original { return renamed }
      if let rest = rest(original) { return join(renamed, String(rest)) }
    }
    func numbers(_ text: Substring, _ count: Int) -> (numbers: [Int], rest: String)? {
      var (text, found) = (text, [Int]())
      for _ in 0..<count {
        guard let end = text.firstRange(of: separator)?.lowerBound, text[..<end].utf8.count <= 3,
          let number = Int(text[..<end]), number >= 0
        else { return nil }
        found.append(number)
        text = text[end...].dropFirst(separator.count)
      }
      return text.isEmpty ? nil : (found, String(text))
    }
    if let (found, part) = rest("middle_block").flatMap({ numbers($0, 1) }) {
      switch found[0] {
      case 0, 2:
        return resnet(part, separator).map { join("mid_block", "resnets", "\(found[0] / 2)", $0) }
      case 1: return join("mid_block", "attentions", "0", part)
      default: return nil
      }
    }
    if let (found, part) = rest("input_blocks").flatMap({ numbers($0, 2) }), found[0] > 0 {
      let (block, layer) = ((found[0] - 1) / perBlock, (found[0] - 1) % perBlock)
      if layer == perBlock - 1 {
        guard found[1] == 0, part == "op" || part.hasPrefix("op" + separator) else { return nil }
        return join("down_blocks", "\(block)", "downsamplers", "0", "conv" + part.dropFirst(2))
      }
      return module("down_blocks", block, layer, found[1], part, separator)
    }
    if let (found, part) = rest("output_blocks").flatMap({ numbers($0, 2) }) {
      let (block, layer) = (found[0] / perBlock, found[0] % perBlock)
      let isSampler = part == "conv" || part.hasPrefix("conv" + separator)
      if found[1] == 2 || (found[1] == 1 && isSampler) {
        guard layer == perBlock - 1, isSampler else { return nil }
        return join("up_blocks", "\(block)", "upsamplers", "0", part)
      }
      return module("up_blocks", block, layer, found[1], part, separator)
    }
    return nil
  }

  private static func module(
    _ blocks: String, _ block: Int, _ layer: Int, _ kind: Int, _ part: String, _ separator: String
  ) -> String? {
    func join(_ kind: String, _ part: String) -> String {
      [blocks, "\(block)", kind, "\(layer)", part].joined(separator: separator)
    }
    switch kind {
    case 0: return resnet(part, separator).map { join("resnets", $0) }
    case 1: return join("attentions", part)
    default: return nil
    }
  }

  /// The layers of a residual block, with what stands behind them.
  private static func resnet(_ part: String, _ separator: String) -> String? {
    for (original, renamed) in [
      (["in_layers", "0"], "norm1"), (["in_layers", "2"], "conv1"), (["emb_layers", "1"], "time_emb_proj"),
      (["out_layers", "0"], "norm2"), (["out_layers", "3"], "conv2"), (["skip_connection"], "conv_shortcut"),
    ] {
      let original = original.joined(separator: separator)
      if part == original { return renamed }
      if part.hasPrefix(original + separator) { return renamed + part.dropFirst(original.count) }
    }
    return nil
  }
}
