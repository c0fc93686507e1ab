/// The layers behind the numbers of a file in cloneofsimo's layout (`unet:0:up`).
///
/// That tool numbers the linear layers of the attentions and GEGLUs of SD1.5 in the order in which they are
/// registered: down, up, middle; in each block self-attention, GEGLU, cross-attention.
struct CloneofsimoNumbering {
  private let unet: [String]
  private let textEncoder: [String]

  /// `metadata` gives the classes that were adapted; for other ones than the usual the numbers mean nothing known.
  init(metadata: (String) -> String?) {
    func classes(_ key: String) -> Set<String>? {
      guard let text = metadata(key), let list = try? JSONValue.parse(text).array else { return nil }
      return Set(list.compactMap(\.string))
    }
    unet = classes("unet") == ["CrossAttention", "Attention", "GEGLU"] ? Self.unetLayers : []
    textEncoder = classes("text_encoder") == ["CLIPAttention"] ? Self.textLayers : []
  }

  /// The layer of a stem such as `unet:12`; the stem itself where the number means nothing known.
  func name(of stem: String) -> LoRAName {
    let parts = stem.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 2, let index = Int(parts[1]), index >= 0, parts[1] == "\(index)" else {
      return LoRAName(.denoiser, path: stem)
    }
    switch parts[0] {
    case "unet" where index < unet.count: return LoRAName(.denoiser, path: unet[index])
    case "text_encoder" where index < textEncoder.count:
      return LoRAName(.textEncoder, path: textEncoder[index])
    default: return LoRAName(.denoiser, path: stem)
    }
  }

  private static let unetLayers: [String] = {
    var blocks: [String] = []
    for down in 0..<3 { blocks += (0..<2).map { "down_blocks.\(down).attentions.\($0)" } }
    for up in 1..<4 { blocks += (0..<3).map { "up_blocks.\(up).attentions.\($0)" } }
    blocks.append("mid_block.attentions.0")
    let attention = ["to_q", "to_k", "to_v", "to_out.0"]
    return blocks.flatMap { block in
      attention.map { "\(block).transformer_blocks.0.attn1.\($0)" }
        + ["\(block).transformer_blocks.0.ff.net.0.proj"]
        + attention.map { "\(block).transformer_blocks.0.attn2.\($0)" }
    }
  }()

  private static let textLayers: [String] = (0..<12).flatMap { layer in
    ["k_proj", "v_proj", "q_proj", "out_proj"].map { "text_model.encoder.layers.\(layer).self_attn.\($0)" }
  }
}
