/// Guesses which model an adapter was made for, for messages about adapters that do not fit.
enum LoRATarget {
  /// A short noun phrase, or nil when nothing is recognised.
  static func guess(modules: [String], layers: [LoRALayer], metadata: (String) -> String?) -> String? {
    if let stated = metadata("modelspec.architecture") ?? metadata("ss_base_model_version") {
      return String(stated.prefix(64))
    }
    func any(_ parts: String...) -> Bool {
      modules.contains { module in parts.contains { module.contains($0) } }
    }
    let width = layers.first { $0.module.hasSuffix("attn1.to_q") }?.inputs
    if any("motion_modules.") { return "AnimateDiff (motion modules)" }
    if any("down_blocks.", "up_blocks.", "mid_block.") { return unet(layers) }
    if any("single_transformer_blocks.") { return "FLUX or HunyuanVideo" }
    if any("double_blocks.", "single_blocks.") { return "FLUX or HunyuanVideo under their original names" }
    if any("transformer_blocks.") {
      switch width {
      case 1920: return "CogVideoX-2B"
      case 3072: return "CogVideoX-5B"
      case 2048: return "LTX-Video"
      default: return "CogVideoX or a relative (transformer_blocks)"
      }
    }
    if any("self_attn.", "cross_attn."), any("blocks.") { return "Wan under its original names" }
    if any("attn1.", "attn2."), any("blocks.") {
      switch width {
      case 1536: return "Wan 2.1 1.3B"
      case 3072: return "Wan 2.2 5B"
      case 5120: return "Wan 2.1 or 2.2 14B"
      default: return width.map { "a Wan transformer of width \($0)" } ?? "a Wan transformer"
      }
    }
    if any("text_model.", "text_encoder") { return "a text encoder" }
    return any("model.layers.") ? "a language model" : nil
  }

  private static func unet(_ layers: [LoRALayer]) -> String {
    switch layers.first(where: { $0.module.hasSuffix("attn2.to_k") })?.inputs {
    case 768: "Stable Diffusion 1.5"
    case 1024: "Stable Diffusion 2"
    case 2048: "Stable Diffusion XL"
    default: "Stable Diffusion (UNet)"
    }
  }
}
