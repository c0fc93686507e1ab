/// Guesses which model layers belong to, for messages about adapters that do not fit: family by the names, size by
/// the widths.
struct LoRATarget {
  /// A layer: its path in diffusers' naming and its widths, 0 where unknown.
  struct Layer {
    var path: String
    var outputs: Int
    var inputs: Int
  }

  let layers: [Layer]

  init(_ layers: [Layer]) { self.layers = layers }

  /// A short noun phrase, or nil when nothing is recognised.
  var name: String? {
    if any("motion_modules.") { return "AnimateDiff (motion modules)" }
    if any("down_blocks.", "up_blocks.", "mid_block.", "input_blocks", "output_blocks", "middle_block") {
      return unet
    }
    if any("single_transformer_blocks.") { return "FLUX or HunyuanVideo" }
    if any("double_blocks.", "single_blocks.") { return "FLUX or HunyuanVideo under their original names" }
    if any("transformer_blocks.") { return transformerBlocks }
    if any("attn1.", "attn2."), any("blocks.") { return wan }
    if any("text_model.", "text_encoder") { return "a text encoder" }
    if any("model.layers.") { return "a language model" }
    return any("blocks.") ? "a transformer with numbered blocks" : nil
  }

  private func any(_ parts: String...) -> Bool {
    layers.contains { layer in parts.contains { layer.path.contains($0) } }
  }

  private func width(_ ending: String) -> Int? {
    layers.first { $0.path.hasSuffix(ending) && $0.inputs > 0 }?.inputs
  }

  private var transformerBlocks: String {
    switch width("attn1.to_q") ?? width("attn1.to_k") ?? width("ff.net.0.proj") {
    case 1920: "CogVideoX-2B"
    case 3072: "CogVideoX-5B"
    case 2048: "LTX-Video"
    case let width?: "CogVideoX or a relative (transformer_blocks) of width \(width)"
    case nil: "CogVideoX or a relative (transformer_blocks)"
    }
  }

  private var wan: String {
    let endings = ["attn1.to_q", "attn1.to_k", "attn1.to_v", "attn2.to_q", "ffn.net.0.proj"]
    let size =
      switch endings.lazy.compactMap({ self.width($0) }).first {
      case 1536: "Wan 2.1 1.3B"
      case 3072: "Wan 2.2 5B"
      case 5120: "Wan 2.1 or 2.2 14B"
      case let width?: "a Wan transformer of width \(width)"
      case nil: "a Wan transformer"
      }
    // [dim, channels, 1, 2, 2]: 16 latent channels, and 20 more where a picture is given.
    let patch = layers.first { $0.path == "patch_embedding" }?.inputs
    if any("add_k_proj", "image_embedder") || patch == 36 * 4 { return size + " image-to-video" }
    return patch == 16 * 4 ? size + " text-to-video" : size
  }

  private var unet: String {
    switch width("attn2.to_k") ?? width("attn2.to_v") {
    case 768: "Stable Diffusion 1.5"
    case 1024: "Stable Diffusion 2"
    case 2048: "Stable Diffusion XL"
    default: "Stable Diffusion (UNet)"
    }
  }
}

extension LoRAFile {
  /// The model the file seems to be made for, as a short noun phrase.
  public var seemsFor: String? {
    let known = layers.map { LoRATarget.Layer(path: $0.module, outputs: $0.outputs, inputs: $0.inputs) }
    let guess = LoRATarget(known + otherKeys.map { LoRATarget.Layer(path: $0, outputs: 0, inputs: 0) }).name
    guard let stated = metadata("modelspec.architecture") ?? metadata("ss_base_model_version") else {
      return guess
    }
    let short = String(stated.prefix(64))
    return guess.map { "\($0) (it says '\(short)')" } ?? short
  }
}
