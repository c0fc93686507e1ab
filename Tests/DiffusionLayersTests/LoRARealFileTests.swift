import DiffusionLayers
import TensorCore
import TestSupport
import Testing

/// Layers of real files, as they were published.
@Suite struct LoRARealFileTests {
  private func file(_ name: String) throws -> LoRAFile {
    try LoRAFile(path: Fixture.path("sd15_loras/\(name).safetensors"))
  }

  /// The whole update of every layer.
  private func deltas(_ file: LoRAFile) throws -> [String: Tensor] {
    try file.layers.reduce(into: [:]) { result, layer in
      let pair = try #require(try file.load(layer).pair)
      result[layer.module] =
        Tensor.linear(pair.up, weight: pair.down.permuted([1, 0]).contiguous()) * pair.scale
    }
  }

  @Test(
    arguments: [
      ("weapons.diffusers-old", .attentionProcessors, .none), ("weapons.diffusers-new", .diffusersOld, .none),
      ("weapons.kohya", .kohya, .tensor), ("weapons.peft", .peft, .none),
    ] as [(String, LoRADialect, LoRAAlphaRule)])
  func fourNamingsOfOneAdapter(name: String, dialect: LoRADialect, rule: LoRAAlphaRule) throws {
    let file = try file(name)
    #expect(file.dialect == dialect)
    #expect(file.family == .stableDiffusion)
    #expect(file.seemsFor?.hasPrefix("Stable Diffusion 1.5") == true)
    #expect(file.report.rules == [rule])
    #expect(file.report.effectiveScale == 1)
    #expect(file.otherKeys == [])
    let found = try deltas(file)
    #expect(found.count == 4)
    // The expected numbers are of the f32 file; the others hold its matrices rounded to f16.
    let golden = try SafetensorsFile(path: Fixture.path("sd15_loras/deltas.safetensors"))
    for module in golden.names {
      let corner = try #require(found[module]).narrow(0, from: 0, length: 8).narrow(1, from: 0, length: 16)
      let difference = Difference(corner, try golden.load(module))
      #expect(
        difference.relative <= (dialect == .attentionProcessors ? 1e-6 : 1e-3), "\(module) \(difference)")
    }
    // Against the f32 file rounded the same way they agree without such an allowance.
    let exact = try self.file("weapons.diffusers-old")
    for layer in exact.layers where dialect != .attentionProcessors {
      let pair = try #require(try exact.load(layer).pair)
      let (down, up) = (Self.half(pair.down), Self.half(pair.up))
      let expected = Tensor.linear(up, weight: down.permuted([1, 0]).contiguous())
      let difference = Difference(try #require(found[layer.module]), expected)
      #expect(difference.relative <= 1e-6, "\(layer.module) \(difference)")
    }
  }

  private static func half(_ tensor: Tensor) -> Tensor {
    Tensor(tensor.array().map { Float(Float16($0)) }, shape: tensor.shape)
  }

  @Test func numberedLayers() throws {
    let file = try file("analog.cloneofsimo")
    #expect(file.dialect == .cloneofsimo)
    #expect(file.family == .stableDiffusion)
    #expect(file.otherKeys == [])
    let block = "down_blocks.0.attentions.0.transformer_blocks.0."
    let text = "text_model.encoder.layers."
    let expected: [(String, [Int])] = [
      (block + "attn1.to_q", [320, 320]), (block + "attn2.to_k", [320, 768]),
      (block + "attn2.to_out.0", [320, 320]),
      (block + "attn2.to_q", [320, 320]), (block + "ff.net.0.proj", [2560, 320]),
      ("mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0", [1280, 1280]),
      (text + "0.self_attn.k_proj", [768, 768]), (text + "0.self_attn.q_proj", [768, 768]),
      (text + "11.self_attn.out_proj", [768, 768]),
    ]
    #expect(file.layers.map(\.module) == expected.map(\.0))
    #expect(file.layers.map { [$0.outputs, $0.inputs] } == expected.map(\.1))
    #expect(file.layers.suffix(3).allSatisfy { $0.component == .textEncoder })
  }

  /// Numbers of other classes than the usual ones mean nothing known and are never guessed.
  @Test func numbersWithoutTheirClassesStayNumbers() throws {
    var writer = SafetensorsWriter(metadata: [("unet", #"["CrossAttention"]"#)])
    writer.add("unet:0:down", Tensor.zeros([1, 4]))
    writer.add("unet:0:up", Tensor.zeros([4, 1]))
    let file = try LoRAFile(source: memory(try serialized(writer)))
    #expect(file.layers.map(\.module) == ["unet:0"])
    #expect(file.family == nil)
  }
}
