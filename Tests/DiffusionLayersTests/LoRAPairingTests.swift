import DiffusionLayers
import TensorCore
import TestSupport
import Testing

/// Files that are made for another model: the sentence says what the file is for and what the model is.
@Suite struct LoRAPairingTests {
  /// The layers of a Wan transformer, without their numbers.
  private static func wan(width: Int, blocks: Int, channels: Int = 16, image: Bool = false) -> [String: [Int]]
  {
    var shapes = ["patch_embedding": [width, channels, 1, 2, 2], "proj_out": [64, width]]
    for block in 0..<blocks {
      for attention in ["attn1", "attn2"] {
        for leaf in ["to_q", "to_k", "to_v", "to_out.0"] {
          shapes["blocks.\(block).\(attention).\(leaf)"] = [width, width]
        }
      }
      if image {
        for leaf in ["add_k_proj", "add_v_proj"] { shapes["blocks.\(block).attn2.\(leaf)"] = [width, width] }
      }
    }
    return shapes
  }

  /// A rank-1 file for these layers, in ComfyUI's or kohya's names.
  private static func file(_ layers: [(String, Int, Int)]) throws -> LoRAFile {
    var writer = SafetensorsWriter()
    for (stem, out, inputs) in layers {
      writer.add(stem + ".lora_down.weight", Tensor.zeros([1, inputs]))
      writer.add(stem + ".lora_up.weight", Tensor.zeros([out, 1]))
    }
    return try LoRAFile(source: memory(try serialized(writer)))
  }

  private func sentence(_ file: LoRAFile, _ model: [String: [Int]], strict: Bool = true) -> String {
    let error = #expect(throws: LoRAError.self) { try file.match(against: model, strict: strict) }
    return error?.description ?? ""
  }

  @Test func stableDiffusionOnWan() throws {
    let real = try LoRAFile(path: Fixture.path("sd15_loras/weapons.kohya.safetensors"))
    for strict in [true, false] {
      let text = sentence(real, Self.wan(width: 1536, blocks: 1), strict: strict)
      #expect(text.contains("does not fit this model: 12 of 12 keys match nothing"), "\(text)")
      #expect(text.contains("made for Stable Diffusion 1.5"), "\(text)")
      #expect(text.contains("this model is Wan 2.1 1.3B text-to-video"), "\(text)")
    }
  }

  @Test func largeOnSmall() throws {
    let file = try Self.file([
      ("lora_unet_blocks_0_self_attn_q", 5120, 5120), ("lora_unet_blocks_39_self_attn_q", 5120, 5120),
    ])
    for strict in [true, false] {
      let text = sentence(file, Self.wan(width: 1536, blocks: 2), strict: strict)
      #expect(
        text.contains("update of 'blocks.0.attn1.to_q' is [5120, 5120] and the layer is [1536, 1536]"),
        "\(text)")
      #expect(
        text.contains("made for Wan 2.1 or 2.2 14B and this model is Wan 2.1 1.3B text-to-video"), "\(text)")
    }
  }

  @Test func imageToVideoOnTextToVideo() throws {
    let file = try Self.file([
      ("diffusion_model.blocks.0.cross_attn.k", 5120, 5120),
      ("diffusion_model.blocks.0.self_attn.q", 5120, 5120),
      ("diffusion_model.blocks.0.cross_attn.k_img", 5120, 5120),
    ])
    let text = sentence(file, Self.wan(width: 5120, blocks: 1))
    #expect(
      text.contains("2 of 6 keys match nothing, such as 'diffusion_model.blocks.0.cross_attn.k_img.lora_"),
      "\(text)")
    #expect(
      text.contains(
        "made for Wan 2.1 or 2.2 14B image-to-video and this model is Wan 2.1 or 2.2 14B text-to-video"),
      "\(text)")
    #expect(text.hasSuffix("lora-strict=false ignores them"), "\(text)")
    let match = try file.match(against: Self.wan(width: 5120, blocks: 1), strict: false)
    #expect(match.updates.count == 2 && match.report.unmatched.count == 2)
    #expect(
      try file.match(against: Self.wan(width: 5120, blocks: 1, channels: 36, image: true), strict: true)
        .updates.count == 3)
  }

  @Test func textEncoderKeysOnATransformer() throws {
    let file = try Self.file([
      ("lora_unet_blocks_0_self_attn_q", 8, 8), ("lora_te_text_model_encoder_layers_0_mlp_fc1", 8, 8),
    ])
    let text = sentence(file, Self.wan(width: 8, blocks: 1))
    #expect(text.contains("2 of 4 keys match nothing, such as 'lora_te_text_model"), "\(text)")
  }

  @Test(
    arguments: [
      ([("transformer.layers.0.attention.query_key_value.matrix_A.0", 1920, 1920)], "CogVideoX-2B"),
      (
        [("diffusion_model.double_blocks.0.img_attn.qkv", 64, 64)],
        "FLUX or HunyuanVideo under their original names"
      ),
      (
        [("down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.to_q", 320, 320)],
        "AnimateDiff (motion modules)"
      ),
      (
        [("diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k", 320, 1024)],
        "Stable Diffusion 2"
      ),
    ] as [([(String, Int, Int)], String)])
  func otherFamiliesAreNamed(layers: [(String, Int, Int)], name: String) throws {
    var writer = SafetensorsWriter()
    for (stem, out, inputs) in layers {
      let isSAT = stem.contains("matrix_A")
      writer.add(isSAT ? stem : stem + ".lora_A.weight", Tensor.zeros([1, inputs]))
      writer.add(
        isSAT ? stem.split(separator: "matrix_A").joined(separator: "matrix_B") : stem + ".lora_B.weight",
        Tensor.zeros([out, 1]))
    }
    let file = try LoRAFile(source: memory(try serialized(writer)))
    #expect(file.seemsFor == name)
    #expect(sentence(file, Self.wan(width: 1536, blocks: 1)).contains(name))
  }
}
