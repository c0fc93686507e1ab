import DiffusionLayers
import TensorCore
import Testing

@Suite struct LoRAMatchTests {
  @Test func reportsAFullMatch() throws {
    var lora = TinyLoRA(alphas: ["blocks.0.attn1.to_q": 4])
    lora.ranks = ["blocks.0.attn1.to_q": 1, "blocks.0.ffn.net.2": 3]
    var modules = TinyLoRA.shapes
    modules["proj_out"] = [2, 2]
    let match = try lora.file().match(against: modules, strict: true)
    let report = match.report
    #expect(match.updates.keys.sorted() == ["blocks.0.attn1.to_q", "blocks.0.ffn.net.2"])
    #expect(match.updates["blocks.0.attn1.to_q"]?.pair?.down.shape == [1, 4])
    #expect(match.updates["blocks.0.attn1.to_q"]?.pair?.up.shape == [6, 1])
    #expect(report.file == "f")
    #expect(report.dialect == .diffusers)
    #expect(report.ranks == [1, 3])
    #expect(report.rank == 3)
    #expect(report.rules == [.tensor, .none])
    #expect(report.scales == 1...4)
    #expect(report.matchedKeys == 5)
    #expect(report.totalKeys == 5)
    #expect(report.unmatched == [])
    #expect(report.untouched == ["proj_out"])
  }

  @Test func unmatchedKeysAreAnErrorWhenStrict() throws {
    var lora = TinyLoRA()
    lora.extra = [("transformer.blocks.0.mystery", Tensor.zeros([2]))]
    var modules = TinyLoRA.shapes
    modules["blocks.0.ffn.net.2"] = nil
    let file = try lora.file()
    #expect(file.otherKeys == ["transformer.blocks.0.mystery"])
    let error = #expect(throws: LoRAError.self) { try file.match(against: modules, strict: true) }
    #expect(
      error?.description == "'f' does not fit this model: 3 of 5 keys match nothing, such as "
        + "'transformer.blocks.0.ffn.net.2.lora_A.weight', 'transformer.blocks.0.ffn.net.2.lora_B.weight', "
        + "'transformer.blocks.0.mystery'; the file seems to be made for a Wan transformer of width 4 and this "
        + "model is a Wan transformer of width 4; "
        + "lora-strict=false ignores them")
    let match = try file.match(against: modules, strict: false)
    #expect(match.updates.keys.sorted() == ["blocks.0.attn1.to_q"])
    #expect(match.report.matchedKeys == 2)
    #expect(match.report.unmatched.count == 3)
  }

  @Test func matchingNothingIsAlwaysAnError() throws {
    let file = try TinyLoRA().file()
    for strict in [true, false] {
      let error = #expect(throws: LoRAError.self) {
        try file.match(against: ["x": [1, 1]], strict: strict)
      }
      guard case .unmatched(_, 4, 4, let examples, _, nil)? = error else {
        Issue.record("\(String(describing: error))")
        continue
      }
      #expect(examples.count == 3)
      #expect(error?.description.contains("lora-strict") == false)
    }
  }

  @Test func anotherWidthIsAlwaysAnError() throws {
    var modules = TinyLoRA.shapes
    modules["blocks.0.attn1.to_q"] = [6, 8]
    for strict in [true, false] {
      #expect(
        throws: LoRAError.shape(
          file: "f", module: "blocks.0.attn1.to_q", expected: [6, 8], found: [6, 4],
          seemsFor: "a Wan transformer of width 4", model: "a Wan transformer of width 8")
      ) { try TinyLoRA().file().match(against: modules, strict: strict) }
    }
  }

  @Test func matchesTheLinearLayersOfASource() throws {
    let model = ResidentSource(
      name: "m",
      tensors: [
        "blocks.0.attn1.to_q.weight": Tensor.zeros([6, 4]), "blocks.0.attn1.to_q.bias": Tensor.zeros([6]),
        "blocks.0.ffn.net.2.weight": Tensor.zeros([4, 5]), "blocks.0.norm2.weight": Tensor.zeros([4]),
        "patch_embedding.weight": Tensor.zeros([4, 3, 1, 2, 2]),
      ])
    let match = try TinyLoRA().file().match(against: model, strict: true)
    #expect(match.report.matchedKeys == 4)
    #expect(match.report.untouched == [])
  }

  /// Files written by peft and diffusers themselves, against a real tiny checkpoint.
  @Test(arguments: [("peft", 1, LoRAAlphaRule.none), ("peft_alpha", 2, LoRAAlphaRule.header)])
  func matchesFilesOfThePeers(name: String, scale: Float, rule: LoRAAlphaRule) throws {
    let fixtures = #filePath.split(separator: "/").dropLast(2).map { "/" + $0 }.joined() + "/Fixtures"
    let model = try SafetensorsSource(try ModelDirectory(fixtures + "/wan_tiny"), component: "transformer")
    let file = try LoRAFile(path: "\(fixtures)/wan_tiny_loras/wan_tiny.\(name).safetensors")
    let match = try file.match(against: model, strict: true)
    #expect(match.report.matchedKeys == match.report.totalKeys)
    #expect(match.report.effectiveScale == scale)
    #expect(match.report.rules == [rule])
    #expect(match.updates["blocks.0.attn1.to_q"] != nil)
  }

  @Test(
    arguments: [
      (["transformer.transformer_blocks.0.attn1.to_q"], 1920, "CogVideoX-2B"),
      (["transformer.transformer_blocks.0.attn1.to_q"], 3072, "CogVideoX-5B"),
      (["transformer.blocks.0.attn1.to_q"], 1536, "Wan 2.1 1.3B"),
      (["transformer.blocks.0.attn1.to_q"], 5120, "Wan 2.1 or 2.2 14B"),
      (["transformer.single_transformer_blocks.0.attn.to_q"], 64, "FLUX or HunyuanVideo"),
      (["text_encoder.text_model.encoder.layers.0.self_attn.q_proj"], 64, "a text encoder"),
      (["base_model.model.model.layers.0.mlp.up_proj"], 64, "a language model"), (["mystery"], 64, nil),
    ] as [([String], Int, String?)])
  func guessesTheTarget(modules: [String], width: Int, expected: String?) throws {
    var writer = SafetensorsWriter()
    for module in modules {
      writer.add(module + ".lora_A.weight", Tensor.zeros([1, width]))
      writer.add(module + ".lora_B.weight", Tensor.zeros([width, 1]))
    }
    let file = try LoRAFile(source: memory(try serialized(writer)))
    #expect(file.seemsFor == expected)
  }

  @Test func trustsAStatedArchitecture() throws {
    let file = try TinyLoRA(metadata: [("modelspec.architecture", "wan2.1/lora")]).file()
    #expect(file.seemsFor == "a Wan transformer of width 4 (it says 'wan2.1/lora')")
  }
}
