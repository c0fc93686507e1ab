/// The model families whose layer names are known, so that a file can be read before its model is there.
public enum LoRAFamily: String, Sendable, CaseIterable {
  case wan
  case cogVideoX = "cogvideox"
  case stableDiffusion = "stable-diffusion"
  case animateDiff = "animatediff"

  /// The family as messages name it.
  public var name: String {
    switch self {
    case .wan: "Wan"
    case .cogVideoX: "CogVideoX"
    case .stableDiffusion: "Stable Diffusion"
    case .animateDiff: "AnimateDiff"
    }
  }
}

extension LoRAFamily {
  /// Whether layers of both families stand in one model: AnimateDiff adds its own to those of Stable Diffusion.
  func sharesPipeline(with other: LoRAFamily) -> Bool {
    let unets: Set<LoRAFamily> = [.stableDiffusion, .animateDiff]
    return self == other || unets.isSuperset(of: [self, other])
  }
}

/// The part of a pipeline that a layer belongs to.
public enum LoRAComponent: String, Sendable, CaseIterable {
  case denoiser
  case textEncoder = "text_encoder"
  case textEncoder2 = "text_encoder_2"
}

/// How one kind of layer is spelled. `#` stands for a number; numbers in the patterns stand for themselves.
package struct ModuleSpelling: Sendable {
  package let family: LoRAFamily
  /// diffusers' path, which is the name of the layer in this engine.
  package let canonical: String
  /// The original repository's path, or an older one of diffusers.
  package let others: [String]
}

extension LoRAFamily {
  /// Every layer of the family that an adapter may target.
  package var spellings: [ModuleSpelling] {
    let table: [(String, [String])] =
      switch self {
      case .wan: Self.wanTable
      case .cogVideoX: Self.cogVideoXTable
      case .stableDiffusion: Self.stableDiffusionTable
      case .animateDiff: Self.animateDiffTable
      }
    return table.map { ModuleSpelling(family: self, canonical: $0.0, others: $0.1) }
  }

  /// diffusers' WanTransformer3DModel and the names of the original checkpoints.
  private static var wanTable: [(String, [String])] {
    var table: [(String, [String])] = [
      ("patch_embedding", []), ("proj_out", ["head.head"]),
      ("condition_embedder.time_embedder.linear_1", ["time_embedding.0"]),
      ("condition_embedder.time_embedder.linear_2", ["time_embedding.2"]),
      ("condition_embedder.time_proj", ["time_projection.1"]),
      ("condition_embedder.text_embedder.linear_1", ["text_embedding.0"]),
      ("condition_embedder.text_embedder.linear_2", ["text_embedding.2"]),
      ("condition_embedder.image_embedder.norm1", ["img_emb.proj.0"]),
      ("condition_embedder.image_embedder.ff.net.0.proj", ["img_emb.proj.1"]),
      ("condition_embedder.image_embedder.ff.net.2", ["img_emb.proj.3"]),
      ("condition_embedder.image_embedder.norm2", ["img_emb.proj.4"]),
      ("vace_patch_embedding", []),
      ("vace_blocks.#.proj_in", ["vace_blocks.#.before_proj"]),
      ("vace_blocks.#.proj_out", ["vace_blocks.#.after_proj"]),
    ]
    let block: [(String, String)] = [
      ("attn1.to_q", "self_attn.q"), ("attn1.to_k", "self_attn.k"), ("attn1.to_v", "self_attn.v"),
      ("attn1.to_out.0", "self_attn.o"), ("attn1.norm_q", "self_attn.norm_q"),
      ("attn1.norm_k", "self_attn.norm_k"), ("attn2.to_q", "cross_attn.q"), ("attn2.to_k", "cross_attn.k"),
      ("attn2.to_v", "cross_attn.v"), ("attn2.to_out.0", "cross_attn.o"),
      ("attn2.norm_q", "cross_attn.norm_q"), ("attn2.norm_k", "cross_attn.norm_k"),
      ("attn2.add_k_proj", "cross_attn.k_img"), ("attn2.add_v_proj", "cross_attn.v_img"),
      ("attn2.norm_added_k", "cross_attn.norm_k_img"), ("ffn.net.0.proj", "ffn.0"), ("ffn.net.2", "ffn.2"),
      ("norm2", "norm3"),
    ]
    for part in ["blocks", "vace_blocks"] {
      table += block.map { ("\(part).#.\($0.0)", ["\(part).#.\($0.1)"]) }
    }
    return table
  }

  /// diffusers' CogVideoXTransformer3DModel; the other names are SAT's, where each factor has its number.
  private static var cogVideoXTable: [(String, [String])] {
    let (block, layer) = ("transformer_blocks.#.", "layers.#.")
    return [
      (block + "attn1.to_q", [layer + "attention.query_key_value.0"]),
      (block + "attn1.to_k", [layer + "attention.query_key_value.1"]),
      (block + "attn1.to_v", [layer + "attention.query_key_value.2"]),
      (block + "attn1.to_out.0", [layer + "attention.dense.0"]),
      (block + "ff.net.0.proj", [layer + "mlp.dense_h_to_4h.0"]),
      (block + "ff.net.2", [layer + "mlp.dense_4h_to_h.0"]),
      (block + "norm1.linear", []), (block + "norm2.linear", []),
      ("patch_embed.proj", []), ("patch_embed.text_proj", []), ("norm_out.linear", []), ("proj_out", []),
      ("time_embedding.linear_1", []), ("time_embedding.linear_2", []),
    ]
  }

  /// Places of blocks in diffusers' UNets.
  private static let unetParts = ["down_blocks.#", "up_blocks.#", "mid_block"]

  private static func attention(_ block: String, old: String) -> [(String, [String])] {
    ["to_q", "to_k", "to_v"].map { ("\(block).\($0)", ["\(old).processor.\($0)"]) }
      + [("\(block).to_out.0", ["\(old).processor.to_out", "\(block).to_out"])]
  }

  /// diffusers' UNet2DConditionModel and CLIPTextModel.
  private static var stableDiffusionTable: [(String, [String])] {
    var table: [(String, [String])] = [
      ("conv_in", []), ("conv_out", []), ("time_embedding.linear_1", []), ("time_embedding.linear_2", []),
      ("down_blocks.#.downsamplers.#.conv", []), ("up_blocks.#.upsamplers.#.conv", []),
    ]
    for part in unetParts {
      let block = "\(part).attentions.#.transformer_blocks.#"
      table += attention("\(block).attn1", old: "\(block).attn1")
      table += attention("\(block).attn2", old: "\(block).attn2")
      let layers = [
        "proj_in", "proj_out", "transformer_blocks.#.ff.net.0.proj", "transformer_blocks.#.ff.net.2",
      ]
      table += layers.map { ("\(part).attentions.#.\($0)", []) }
      table += ["conv1", "conv2", "conv_shortcut", "time_emb_proj"].map { ("\(part).resnets.#.\($0)", []) }
    }
    let layer = "text_model.encoder.layers.#"
    for (name, old) in [("q_proj", "to_q"), ("k_proj", "to_k"), ("v_proj", "to_v"), ("out_proj", "to_out")] {
      table.append(("\(layer).self_attn.\(name)", ["\(layer).self_attn.\(old)"]))
    }
    return table + ["fc1", "fc2"].map { ("\(layer).mlp.\($0)", []) }
  }

  /// diffusers' MotionAdapter; the other names are the official repository's.
  private static var animateDiffTable: [(String, [String])] {
    var table: [(String, [String])] = []
    for part in unetParts {
      let (module, block) = ("\(part).motion_modules.#", "\(part).motion_modules.#.transformer_blocks.#")
      let original = "\(module).temporal_transformer"
      for (index, name) in ["attn1", "attn2"].enumerated() {
        let old = "\(original).transformer_blocks.#.attention_blocks.\(index)"
        for (path, others) in attention("\(block).\(name)", old: "\(block).\(name)") {
          let leaf = path.dropFirst(block.count + name.count + 2)
          let processor = leaf == "to_out.0" ? "processor.to_out" : "processor.\(leaf)"
          table.append((path, ["\(old).\(processor)", "\(old).\(leaf)"] + others))
        }
      }
      for leaf in ["ff.net.0.proj", "ff.net.2"] {
        table.append(("\(block).\(leaf)", ["\(original).transformer_blocks.#.\(leaf)"]))
      }
      for leaf in ["proj_in", "proj_out"] { table.append(("\(module).\(leaf)", ["\(original).\(leaf)"])) }
    }
    return table
  }
}
