import DiffusionLayers
import TensorCore
import TestSupport
import Testing

/// Two layers of a Wan model written by hand in every scheme: names here do not come from the code under test.
enum WanNames {
  static let modules = ["blocks.0.attn1.to_q", "blocks.0.ffn.net.2"]
  static let original = ["blocks.0.self_attn.q", "blocks.0.ffn.2"]

  struct Scheme {
    var dialect: LoRADialect
    var stems: [String]
    var down = ".lora_A.weight"
    var up = ".lora_B.weight"
    /// Whether the scheme has a place for alpha.
    var alpha = true
  }

  static let schemes: [Scheme] = [
    Scheme(dialect: .diffusers, stems: modules.map { "transformer." + $0 }),
    Scheme(dialect: .diffusers, stems: modules.map { "transformer.transformer." + $0 }),
    Scheme(dialect: .diffusers, stems: modules.map { "transformer." + $0 }, down: ".lora_A", up: ".lora_B"),
    Scheme(dialect: .peft, stems: modules.map { "base_model.model." + $0 }),
    Scheme(dialect: .peft, stems: original.map { "base_model.model." + $0 }),
    Scheme(dialect: .bare, stems: modules), Scheme(dialect: .original, stems: original),
    Scheme(
      dialect: .diffSynth, stems: original, down: ".lora_A.default.weight", up: ".lora_B.default.weight"),
    Scheme(dialect: .comfyUI, stems: original.map { "diffusion_model." + $0 }),
    Scheme(dialect: .comfyUI, stems: original.map { "diffusion_model.diffusion_model." + $0 }),
    Scheme(dialect: .comfyUI, stems: original.map { "model.diffusion_model." + $0 }),
    Scheme(
      dialect: .comfyUI, stems: original.map { "diffusion_model." + $0 }, down: ".lora_down.weight",
      up: ".lora_up.weight"),
    Scheme(
      dialect: .kohya, stems: ["lora_unet_blocks_0_self_attn_q", "lora_unet_blocks_0_ffn_2"],
      down: ".lora_down.weight", up: ".lora_up.weight"),
    Scheme(
      dialect: .kohya, stems: ["lora_unet_blocks_0_attn1_to_q", "lora_unet_blocks_0_ffn_net_2"],
      down: ".lora_down.weight", up: ".lora_up.weight"),
    Scheme(
      dialect: .videoXFun, stems: ["lora_unet__blocks_0_self_attn_q", "lora_unet__blocks_0_ffn_2"],
      down: ".lora_down.weight", up: ".lora_up.weight"),
    Scheme(
      dialect: .diffusersOld, stems: modules.map { "transformer." + $0 }, down: ".lora.down.weight",
      up: ".lora.up.weight"),
    Scheme(
      dialect: .diffusersOld, stems: modules.map { "transformer." + $0 },
      down: ".lora_linear_layer.down.weight",
      up: ".lora_linear_layer.up.weight"),
    Scheme(
      dialect: .attentionProcessors, stems: modules.map { "transformer." + $0 }, down: "_lora.down.weight",
      up: "_lora.up.weight"),
  ]

  /// The file of a scheme; `alpha` is written as tensors where it is given.
  static func file(_ scheme: Scheme, rank: Int = 3, alpha: Float?) throws -> LoRAFile {
    var writer = SafetensorsWriter()
    for (module, stem) in zip(modules, scheme.stems) {
      let shape = try #require(TinyLoRA.modules[module])
      writer.add(stem + scheme.down, TinyLoRA.numbers([rank, shape.in], 1))
      writer.add(stem + scheme.up, TinyLoRA.numbers([shape.out, rank], 2))
      if let alpha { writer.add(stem + ".alpha", Tensor([alpha], shape: [])) }
    }
    return try LoRAFile(source: memory(try serialized(writer)))
  }
}

@Suite struct LoRADialectTests {
  /// Same tensors, same bits, whatever they are called: with and without an alpha that is not the rank.
  @Test(arguments: [nil, 2] as [Float?])
  func everySchemeGivesTheSameUpdate(alpha: Float?) throws {
    let expected = Float((alpha.map { Double($0) } ?? 3) / 3)
    for scheme in WanNames.schemes {
      let file = try WanNames.file(scheme, alpha: alpha)
      #expect(file.dialect == scheme.dialect, "\(scheme.stems)")
      #expect(file.family == .wan)
      #expect(file.layers.map(\.module) == WanNames.modules, "\(scheme.stems)")
      let match = try file.match(against: TinyLoRA.shapes, strict: true)
      for (module, shape) in TinyLoRA.modules {
        let pair = try #require(match.updates[module]?.pair)
        #expect(pair.down.array() == TinyLoRA.numbers([3, shape.in], 1).array())
        #expect(pair.up.array() == TinyLoRA.numbers([shape.out, 3], 2).array())
        #expect(pair.scale == expected)
      }
    }
  }

  @Test func pairsOfTheWholeModelAreFound() throws {
    let names = [
      ("head.head", "proj_out"), ("patch_embedding", "patch_embedding"),
      ("time_embedding.0", "condition_embedder.time_embedder.linear_1"),
      ("time_embedding.2", "condition_embedder.time_embedder.linear_2"),
      ("time_projection.1", "condition_embedder.time_proj"),
      ("text_embedding.0", "condition_embedder.text_embedder.linear_1"),
      ("text_embedding.2", "condition_embedder.text_embedder.linear_2"),
      ("img_emb.proj.1", "condition_embedder.image_embedder.ff.net.0.proj"),
      ("img_emb.proj.3", "condition_embedder.image_embedder.ff.net.2"),
      ("blocks.12.self_attn.k", "blocks.12.attn1.to_k"), ("blocks.1.self_attn.o", "blocks.1.attn1.to_out.0"),
      ("blocks.39.cross_attn.v", "blocks.39.attn2.to_v"), ("blocks.3.norm3", "blocks.3.norm2"),
      ("blocks.0.cross_attn.k_img", "blocks.0.attn2.add_k_proj"),
      ("blocks.0.cross_attn.v_img", "blocks.0.attn2.add_v_proj"),
      ("blocks.0.ffn.0", "blocks.0.ffn.net.0.proj"),
      ("blocks.0.cross_attn.norm_q", "blocks.0.attn2.norm_q"),
    ]
    for (original, path) in names {
      for stem in ["diffusion_model." + original, original, path, "transformer." + path] {
        #expect(LoRAName(stem).path == path)
      }
      let underscored = original.split(separator: ".").joined(separator: "_")
      for prefix in ["lora_unet_", "lora_unet__"] {
        #expect(LoRAName(prefix + underscored).path == path)
        #expect(LoRAName(prefix + path.split(separator: ".").joined(separator: "_")).path == path)
      }
    }
    // Layers that no family has stay as they are.
    #expect(LoRAName("transformer.blocks.0.mystery").path == "blocks.0.mystery")
    #expect(LoRAName("blocks.x.self_attn.q").found == nil)
    #expect(LoRAName("lora_unet_blocks_0_self_attn").found == nil)
  }

  @Test func otherFamiliesAreRead() throws {
    let cases: [(String, LoRAComponent, String)] = [
      (
        "model.diffusion_model.transformer.layers.7.attention.query_key_value.matrix_A.1", .denoiser,
        "transformer_blocks.7.attn1.to_k"
      ),
      (
        "transformer.layers.7.attention.dense.matrix_B.0", .denoiser, "transformer_blocks.7.attn1.to_out.0"
      ),
      (
        "lora_unet__transformer_blocks_3_attn1_to_out_0.lora_down.weight", .denoiser,
        "transformer_blocks.3.attn1.to_out.0"
      ),
      (
        "down_blocks.0.motion_modules.1.temporal_transformer.transformer_blocks.0.attention_blocks.1.processor.to_out_lora.up.weight",
        .denoiser, "down_blocks.0.motion_modules.1.transformer_blocks.0.attn2.to_out.0"
      ),
      (
        "unet.up_blocks.2.motion_modules.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight",
        .denoiser, "up_blocks.2.motion_modules.0.transformer_blocks.0.attn1.to_q"
      ),
      (
        "mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_v_lora.down.weight", .denoiser,
        "mid_block.attentions.0.transformer_blocks.0.attn2.to_v"
      ),
      (
        "lora_unet_up_blocks_3_resnets_2_conv_shortcut.lora_up.weight", .denoiser,
        "up_blocks.3.resnets.2.conv_shortcut"
      ),
      ("lora_unet_mid_block_attentions_0_proj_in.alpha", .denoiser, "mid_block.attentions.0.proj_in"),
      (
        "lora_te_text_model_encoder_layers_11_self_attn_out_proj.lora_down.weight", .textEncoder,
        "text_model.encoder.layers.11.self_attn.out_proj"
      ),
      (
        "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", .textEncoder2,
        "text_model.encoder.layers.0.mlp.fc1"
      ),
      (
        "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.down.weight",
        .textEncoder,
        "text_model.encoder.layers.0.self_attn.q_proj"
      ),
      (
        "text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora.down.weight", .textEncoder,
        "text_model.encoder.layers.0.self_attn.q_proj"
      ),
    ]
    for (key, component, path) in cases {
      let name = LoRAName(try #require(LoRAKey(key), "\(key)").stem)
      #expect(name.component == component, "\(key)")
      #expect(name.path == path, "\(key)")
      #expect(name.found != nil, "\(key)")
    }
  }

  /// The tables contradict themselves nowhere: every spelling leads to one layer and back.
  @Test func tablesAreConsistent() throws {
    for module in LoRAFamily.allCases.flatMap(\.spellings) {
      func number(_ text: String) -> String { text.split(separator: "#").joined(separator: "17") }
      let path = number(module.canonical)
      for spelling in [module.canonical] + module.others {
        let dotted = number(spelling)
        #expect(
          spelling.filter { $0 == "#" }.count == module.canonical.filter { $0 == "#" }.count, "\(spelling)")
        #expect(ModuleNames.find(dotted)?.path == path, "\(spelling)")
        let underscored = String(dotted.map { $0 == "." ? "_" : $0 })
        #expect(ModuleNames.find(underscored: underscored)?.path == path, "\(spelling)")
      }
      if let original = module.others.first {
        #expect(ModuleNames.original(path, of: module.family) == number(original))
      }
    }
  }

  /// Names with underscores are looked up among the model's own, so that none is guessed.
  @Test func underscoresFollowTheModel() throws {
    func file(_ stem: String) throws -> LoRAFile {
      var writer = SafetensorsWriter()
      writer.add(stem + ".lora_down.weight", Tensor.zeros([1, 4]))
      writer.add(stem + ".lora_up.weight", Tensor.zeros([4, 1]))
      return try LoRAFile(source: memory(try serialized(writer)))
    }
    let odd = try file("lora_unet_odd_block_3_to_q")
    #expect(odd.layers.map(\.module) == ["odd_block_3_to_q"])
    #expect(
      try odd.match(against: ["odd_block.3.to_q": [4, 4]], strict: true).updates.keys.first
        == "odd_block.3.to_q")
    let error = #expect(throws: LoRAError.self) {
      try odd.match(against: ["odd_block.3.to_q": [4, 4], "odd.block.3.to_q": [4, 4]], strict: true)
    }
    #expect(
      error
        == .ambiguous(
          file: "f", key: "lora_unet_odd_block_3_to_q.lora_down.weight",
          modules: ["odd.block.3.to_q", "odd_block.3.to_q"]))
    // Two names of one layer, one only known once the model is there.
    var writer = SafetensorsWriter()
    for stem in ["lora_unet_odd_block_3_to_q", "odd_block.3.to_q"] {
      writer.add(stem + ".lora_down.weight", Tensor.zeros([1, 4]))
      writer.add(stem + ".lora_up.weight", Tensor.zeros([4, 1]))
    }
    let both = try LoRAFile(source: memory(try serialized(writer)))
    let twice = #expect(throws: LoRAError.self) {
      try both.match(against: ["odd_block.3.to_q": [4, 4]], strict: true)
    }
    guard case .duplicateTarget? = twice else {
      Issue.record("\(String(describing: twice))")
      return
    }
  }

  @Test func rolesAreTakenFromHeaderOrName() throws {
    func role(_ name: String, metadata: [(String, String)] = [], stem: String) throws -> String? {
      var writer = SafetensorsWriter(metadata: metadata)
      writer.add(stem + ".lora.down.weight", Tensor.zeros([1, 4]))
      writer.add(stem + ".lora.up.weight", Tensor.zeros([4, 1]))
      return try LoRAFile(source: .memory(name: name, bytes: try serialized(writer))).role
    }
    let motion = "down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.to_q"
    #expect(try role("v2_lora_ZoomIn.safetensors", stem: motion) == "camera")
    #expect(try role("/x/v2_lora_PanLeft.safetensors", stem: motion) == "camera")
    #expect(try role("dance.safetensors", stem: motion) == "motion")
    #expect(try role("dance.safetensors", metadata: [("role", "style")], stem: motion) == "style")
    #expect(try role("dance.safetensors", stem: "blocks.0.attn1.to_q") == nil)
  }
}
