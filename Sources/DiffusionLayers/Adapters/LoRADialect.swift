/// The naming scheme of an adapter file.
public enum LoRADialect: String, Sendable, CaseIterable {
  /// `transformer.<module>.lora_A.weight`, `unet.…`, `text_encoder.…`
  case diffusers
  /// `base_model.model.<module>.lora_A.weight`
  case peft
  /// `<module>.lora_A.weight` under diffusers' names
  case bare
  /// `<module>.lora_A.weight` under the original repository's names
  case original
  /// `<module>.lora_A.default.weight` under the original repository's names
  case diffSynth = "diffsynth"
  /// `diffusion_model.<module>.lora_down.weight` or `.lora_A.weight`
  case comfyUI = "comfyui"
  /// `lora_unet_blocks_0_self_attn_q.lora_down.weight`
  case kohya
  /// `lora_unet__blocks_0_self_attn_q.lora_down.weight`
  case videoXFun = "videox-fun"
  /// `<module>.lora.down.weight`
  case diffusersOld = "diffusers-old"
  /// `<attention>.processor.to_q_lora.down.weight`
  case attentionProcessors = "attention-processors"
  /// `….temporal_transformer.….attention_blocks.0.processor.to_q_lora.down.weight`
  case motion = "motion-lora"
  /// `transformer.layers.0.attention.query_key_value.matrix_A.0`
  case sat
  /// `unet:0:down`
  case cloneofsimo

  /// What a file of this kind is, as a sentence names it.
  public var name: String {
    switch self {
    case .diffusers: "a LoRA in diffusers' layout"
    case .peft: "a LoRA in PEFT's layout"
    case .bare: "a LoRA in diffusers' layout without a prefix"
    case .original: "a LoRA under the original repository's names"
    case .diffSynth: "a LoRA in DiffSynth's layout"
    case .comfyUI: "a LoRA in ComfyUI's layout (diffusion_model.…)"
    case .kohya: "a LoRA in kohya's layout (lora_unet_…)"
    case .videoXFun: "a LoRA in VideoX-Fun's layout (lora_unet__…)"
    case .diffusersOld: "a LoRA in diffusers' old layout (.lora.down, .lora.up)"
    case .attentionProcessors: "a LoRA in diffusers' old attention-processor layout"
    case .motion: "an AnimateDiff motion LoRA in the official layout"
    case .sat: "a CogVideoX LoRA in SAT's layout (matrix_A, matrix_B)"
    case .cloneofsimo: "a Stable Diffusion LoRA in cloneofsimo's layout (unet:N:up)"
    }
  }

  /// The scheme of one tensor's name.
  static func detect(_ key: LoRAKey, _ name: LoRAName) -> LoRADialect {
    switch key.spelling {
    case .numbered: return .cloneofsimo
    case .matrix: return .sat
    case .processor:
      return name.spelling.contains(".temporal_transformer.") ? .motion : .attentionProcessors
    case .diffusersOld: return .diffusersOld
    case .peft, .named, .kohya, nil: break
    }
    switch name.prefix {
    case .kohya: return .kohya
    case .videoXFun: return .videoXFun
    case .comfyUI: return .comfyUI
    case .peft: return .peft
    case .component: return .diffusers
    case .none:
      let isOriginal = name.found.map { !$0.isCanonical } ?? false
      if isOriginal { return key.spelling == .named ? .diffSynth : .original }
      return .bare
    }
  }
}
