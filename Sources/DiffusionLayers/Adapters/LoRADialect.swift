/// The naming scheme of an adapter file. The first three are loaded; the others are recognised and refused by
/// name, so that nobody wonders why an adapter has no effect.
public enum LoRADialect: String, Sendable, CaseIterable {
  /// `transformer.<module>.lora_A.weight`
  case diffusers
  /// `base_model.model.<module>.lora_A.weight`
  case peft
  /// `<module>.lora_A.weight`
  case bare

  case dora, loha, lokr
  case kohyaWan = "kohya-wan"
  case kohyaUNet = "kohya-unet"
  case kohya
  case comfyUI = "comfyui"
  case wanOriginal = "wan-original"
  case sat
  case motion = "motion-lora"
  case attentionProcessors = "attention-processors"
  case diffusersUNet = "diffusers-unet"
  case diffusersOld = "diffusers-old"
  case cloneofsimo

  /// What a file of this kind is, as a sentence names it.
  public var name: String {
    switch self {
    case .diffusers: "a LoRA in diffusers' layout"
    case .peft: "a LoRA in PEFT's layout"
    case .bare: "a LoRA in diffusers' layout without a prefix"
    case .dora: "a DoRA adapter (it has magnitude vectors)"
    case .loha: "a LoHa adapter (Hadamard products)"
    case .lokr: "a LoKr adapter (Kronecker products)"
    case .kohyaWan: "a Wan LoRA in kohya's layout (lora_unet_blocks_…)"
    case .kohyaUNet: "a Stable Diffusion LoRA in kohya's layout (lora_unet_down_blocks_…)"
    case .kohya: "a LoRA in kohya's layout (lora_unet_…)"
    case .comfyUI: "a LoRA in ComfyUI's layout (diffusion_model.…)"
    case .wanOriginal: "a Wan LoRA under the original repository's names (blocks.N.self_attn.q)"
    case .sat: "a CogVideoX LoRA in SAT's layout (matrix_A, matrix_B)"
    case .motion: "an AnimateDiff motion LoRA"
    case .attentionProcessors: "a Stable Diffusion LoRA in diffusers' old attention-processor layout"
    case .diffusersUNet: "a Stable Diffusion LoRA (down_blocks, up_blocks)"
    case .diffusersOld: "a LoRA in diffusers' old layout (.lora.down, .lora.up)"
    case .cloneofsimo: "a Stable Diffusion LoRA in cloneofsimo's layout (unet:N:up)"
    }
  }

  /// Whether this version loads it.
  public var isLoadable: Bool { self == .diffusers || self == .peft || self == .bare }

  /// The dialect of a file with these tensor names, or nil when they are no adapter's. A file that mixes
  /// schemes counts as the first refused one: half an adapter is worse than none.
  static func detect(_ keys: [String]) -> LoRADialect? {
    for (dialect, matches) in refused where keys.contains(where: matches) { return dialect }
    guard let first = keys.first(where: { $0.contains(".lora_A.") || $0.contains(".lora_B.") }) else {
      return nil
    }
    if first.hasPrefix(LoRAKey.peftPrefix) { return .peft }
    return first.hasPrefix(LoRAKey.diffusersPrefix) ? .diffusers : .bare
  }

  private static let refused: [(LoRADialect, @Sendable (String) -> Bool)] = [
    (.dora, { $0.hasSuffix(".dora_scale") || $0.contains(".lora_magnitude_vector") }),
    (.loha, { $0.contains(".hada_w") }),
    (.lokr, { $0.contains(".lokr_w") }),
    (.cloneofsimo, { $0.hasPrefix("unet:") || $0.hasPrefix("text_encoder:") }),
    (.kohyaWan, { $0.hasPrefix("lora_unet_blocks_") || $0.hasPrefix("lora_unet__blocks_") }),
    (
      .kohyaUNet,
      { key in
        let parts = [
          "down_blocks_", "up_blocks_", "mid_block_", "input_blocks_", "middle_block_", "output_blocks_",
        ]
        return parts.contains { key.hasPrefix("lora_unet_" + $0) } || key.hasPrefix("lora_te")
      }
    ),
    (.kohya, { $0.hasPrefix("lora_unet_") || $0.hasPrefix("lora_transformer_") }),
    (.comfyUI, { $0.hasPrefix("diffusion_model.") }),
    (.sat, { $0.contains(".matrix_A.") }),
    (.motion, { $0.contains("motion_modules.") && $0.contains("lora") }),
    (.attentionProcessors, { $0.contains(".processor.to_") && $0.contains("_lora.") }),
    (
      .diffusersUNet,
      { key in
        let isPart = ["down_blocks.", "up_blocks.", "mid_block."].contains {
          LoRAKey.stripped(key).hasPrefix($0)
        }
        return (isPart || key.hasPrefix("unet.")) && key.contains("lora")
      }
    ),
    (.diffusersOld, { $0.contains(".lora.down.") || $0.contains(".lora_linear_layer.") }),
    (
      .wanOriginal,
      { key in
        let module = LoRAKey.stripped(key)
        return module.hasPrefix("blocks.") && key.contains("lora")
          && (module.contains(".self_attn.") || module.contains(".cross_attn."))
      }
    ),
  ]
}

/// A tensor name of a loadable adapter, taken apart.
struct LoRAKey {
  enum Part { case down, up, alpha }
  let module: String
  let part: Part

  static let peftPrefix = "base_model.model."
  static let diffusersPrefix = "transformer."

  /// Nil for a name that is no part of a low-rank pair.
  init?(_ key: String) {
    let suffixes: [(String, Part)] = [
      (".lora_A.weight", .down), (".lora_B.weight", .up),
      (".lora_A.default.weight", .down), (".lora_B.default.weight", .up), (".alpha", .alpha),
    ]
    for (suffix, part) in suffixes where key.hasSuffix(suffix) {
      module = Self.stripped(String(key.dropLast(suffix.count)))
      self.part = part
      return
    }
    return nil
  }

  /// The name without the prefixes that say which component of a pipeline is meant.
  static func stripped(_ key: String) -> String {
    var rest = key[...]
    if rest.hasPrefix(peftPrefix) { rest = rest.dropFirst(peftPrefix.count) }
    if rest.hasPrefix(diffusersPrefix) { rest = rest.dropFirst(diffusersPrefix.count) }
    return String(rest)
  }
}
