import DiffusionLayers
import TensorCore
import TestSupport
import Testing

@Suite struct LoRAWriterTests {
  private static func write(_ writer: SafetensorsWriter, _ folder: TemporaryFolder, _ name: String) throws
    -> LoRAFile
  {
    let path = "\(folder.path)/\(name).safetensors"
    try writer.write(to: path)
    return try LoRAFile(path: path)
  }

  /// Two layers in bf16, alpha 2 for one of rank 3 and 8 for one of rank 4.
  private static func source(_ folder: TemporaryFolder) throws -> LoRAFile {
    var writer = SafetensorsWriter(metadata: [("licence", "MIT"), ("ss_network_dim", "3")])
    for (index, (module, shape)) in TinyLoRA.modules.sorted(by: { $0.key < $1.key }).enumerated() {
      let rank = [3, 4][index]
      for (ending, extents) in [
        (".lora_A.weight", [rank, shape.in]), (".lora_B.weight", [shape.out, rank]),
      ] {
        let values = TinyLoRA.numbers(extents, UInt64(index + extents[0])).array()
        let bytes = values.flatMap { withUnsafeBytes(of: UInt16($0.bitPattern >> 16)) { Array($0) } }
        writer.add("transformer.\(module)\(ending)", bytes: bytes, dtype: .bfloat16, shape: extents)
      }
      writer.add("transformer.\(module).alpha", Tensor([[2, 8][index]], shape: []))
    }
    return try write(writer, folder, "source")
  }

  private func deltas(_ file: LoRAFile) throws -> [String: [Double]] {
    try file.layers.reduce(into: [:]) { result, layer in
      result[layer.module] = delta(try #require(try file.load(layer).pair))
    }
  }

  private func expectEqual(_ found: [String: [Double]], _ expected: [String: [Double]], _ label: String) {
    #expect(found.keys.sorted() == expected.keys.sorted(), "\(label)")
    for (module, values) in expected {
      let worst = zip(found[module] ?? [], values).map { abs($0 - $1) }.max() ?? .infinity
      #expect(worst <= 1e-6 * (values.map { abs($0) }.max() ?? 0), "\(label) \(module): \(worst)")
    }
  }

  @Test func everyTargetKeepsTheUpdate() throws {
    let folder = TemporaryFolder()
    let source = try Self.source(folder)
    let expected = try deltas(source)
    let holdsAlpha: Set<LoRADialect> = [.diffusers, .comfyUI, .kohya, .videoXFun]
    for dialect in LoRAWriter.dialects {
      let path = "\(folder.path)/\(dialect.rawValue).safetensors"
      if [.diffusersOld, .attentionProcessors, .motion].contains(dialect) {
        let error = #expect(throws: LoRAError.self) {
          try LoRAWriter.convert(source, to: dialect, path: path)
        }
        #expect(error?.description.contains("has no name for the layer 'blocks.0.attn1.to_q'") == true)
        #expect(!folder.files.contains("\(dialect.rawValue).safetensors"))
        continue
      }
      let notes = try LoRAWriter.convert(source, to: dialect, path: path)
      let file = try LoRAFile(path: path)
      #expect(file.dialect == dialect)
      #expect(file.metadata("licence") == "MIT")
      #expect(notes.isEmpty == holdsAlpha.contains(dialect), "\(notes)")
      expectEqual(try deltas(file), expected, dialect.rawValue)
      let dtypes = Set(
        try SafetensorsFile(path: path).entries.filter { $0.value.shape.count > 1 }.map(\.value.dtype))
      if holdsAlpha.contains(dialect) {
        // Bit by bit, and back again.
        #expect(dtypes == [.bfloat16])
        #expect(file.layers.map(\.scale) == source.layers.map(\.scale))
        let back = "\(folder.path)/back.safetensors"
        #expect(try LoRAWriter.convert(file, to: .diffusers, path: back) == [])
        let returned = try LoRAFile(path: back)
        #expect(returned.layers.map(\.scale) == source.layers.map(\.scale))
        #expect(try deltas(returned) == expected)
      } else {
        // 8 / 4 folds into bf16 exactly, 2 / 3 needs f32.
        #expect(dtypes == [.bfloat16, .float32])
        #expect(file.layers.map(\.scale) == [1, 1])
      }
    }
  }

  /// diffusers' own names for a file whose alphas differ: read back by PEFT's rules.
  @Test func headerSaysWhatPEFTNeeds() throws {
    let folder = TemporaryFolder()
    let path = folder.path + "/x.safetensors"
    _ = try LoRAWriter.convert(try Self.source(folder), to: .diffusers, path: path)
    let file = try SafetensorsFile(path: path)
    #expect(file.names.allSatisfy { $0.hasPrefix("transformer.blocks.0.") && $0.contains(".lora_") })
    let text = try #require(file.metadata("lora_adapter_metadata"))
    let json = try #require(try JSONValue.parse(text).object)
    #expect(json["transformer.target_modules"]?.array?.count == 2)
    let rank = try json.int("transformer.r")
    #expect([3, 4].contains(rank))
    #expect(try json.object("transformer.rank_pattern").keys.count == 1)
    #expect(try json.object("transformer.alpha_pattern").keys.count == 1)
  }

  @Test func stableDiffusionBetweenItsNamings() throws {
    let folder = TemporaryFolder()
    let source = try LoRAFile(path: Fixture.path("sd15_loras/weapons.kohya.safetensors"))
    let expected = try deltas(source)
    for dialect in [LoRADialect.kohya, .diffusers, .peft, .bare, .diffusersOld, .attentionProcessors] {
      let path = "\(folder.path)/\(dialect.rawValue).safetensors"
      #expect(try LoRAWriter.convert(source, to: dialect, path: path) == [])
      let file = try LoRAFile(path: path)
      #expect(file.dialect == dialect)
      #expect(try deltas(file) == expected, "\(dialect)")
    }
    // The names that kohya and diffusers really use.
    let kohya = try SafetensorsFile(path: folder.path + "/kohya.safetensors")
    #expect(
      Set(kohya.names)
        == Set(try SafetensorsFile(path: Fixture.path("sd15_loras/weapons.kohya.safetensors")).names))
    let old = try SafetensorsFile(path: folder.path + "/attention-processors.safetensors")
    let real = try SafetensorsFile(path: Fixture.path("sd15_loras/weapons.diffusers-old.safetensors"))
    #expect(Set(old.names) == Set(real.names.map { "unet." + $0 }))
    for dialect in [LoRADialect.comfyUI, .original, .sat, .cloneofsimo, .motion] {
      #expect(throws: LoRAError.self) {
        try LoRAWriter.convert(source, to: dialect, path: folder.path + "/no")
      }
    }
  }

  @Test func differencesGoWhereTheyHaveAName() throws {
    let folder = TemporaryFolder()
    var writer = SafetensorsWriter()
    let prefix = "diffusion_model.blocks.0."
    writer.add(prefix + "self_attn.q.lora_down.weight", TinyLoRA.numbers([2, 4], 1))
    writer.add(prefix + "self_attn.q.lora_up.weight", TinyLoRA.numbers([6, 2], 2))
    writer.add(prefix + "self_attn.q.alpha", Tensor([3], shape: []))
    writer.add(prefix + "self_attn.q.diff_b", TinyLoRA.numbers([6], 3))
    let simple = try Self.write(writer, folder, "simple")
    let path = folder.path + "/x.safetensors"
    for dialect in [LoRADialect.diffusers, .kohya, .peft] {
      _ = try LoRAWriter.convert(simple, to: dialect, path: path)
      let file = try LoRAFile(path: path)
      let (found, expected) = (try file.load(file.layers[0]), try simple.load(simple.layers[0]))
      #expect(found.bias?.array() == expected.bias?.array(), "\(dialect)")
      expectEqual(try deltas(file), try deltas(simple), dialect.rawValue)
    }
    writer.add(prefix + "norm3.diff", TinyLoRA.numbers([4], 4))
    let full = try Self.write(writer, folder, "full")
    let error = #expect(throws: LoRAError.self) { try LoRAWriter.convert(full, to: .diffusers, path: path) }
    #expect(error?.description.contains("cannot hold the difference of 'blocks.0.norm2'") == true)
    _ = try LoRAWriter.convert(full, to: .kohya, path: path)
    #expect(try SafetensorsFile(path: path).names.contains("lora_unet_blocks_0_norm3.diff"))
  }

  @Test func refusesWhatItDoesNotUnderstand() throws {
    let folder = TemporaryFolder()
    var lora = TinyLoRA()
    lora.extra = [("mystery", Tensor.zeros([1]))]
    let file = try lora.file()
    let error = #expect(throws: LoRAError.self) {
      try LoRAWriter.convert(file, to: .kohya, path: folder.path + "/x")
    }
    #expect(error?.description.contains("no part of an update, such as 'mystery'") == true)
    lora.extra = [
      ("z.lora_A.weight", Tensor([.nan], shape: [1, 1])), ("z.lora_B.weight", Tensor([1], shape: [1, 1])),
    ]
    let broken = try lora.file()
    #expect(throws: LoRAError.file(.notFinite(file: "f", tensor: "z.lora_A.weight", index: 0))) {
      try LoRAWriter.convert(broken, to: .diffusers, path: folder.path + "/x")
    }
    #expect(folder.files == [])
  }

  @Test func mergeIsTheExactSum() throws {
    let folder = TemporaryFolder()
    let first = try Self.source(folder)
    let second = try TinyLoRA(prefix: "transformer.").file()
    let (a, b) = (try deltas(first), try deltas(second))
    let path = folder.path + "/sum.safetensors"
    _ = try LoRAMerge.sum([(first, 0.5), (second, -2)], as: .diffusers, path: path)
    let merged = try LoRAFile(path: path)
    #expect(merged.layers.map(\.rank) == [5, 4])  // 3 + 2; 4 + 2 exceeds both widths of the other layer
    #expect(merged.layers.map(\.scale) == [1, 1])
    expectEqual(
      try deltas(merged),
      a.reduce(into: [:]) { sum, entry in
        sum[entry.key] = zip(entry.value, b[entry.key] ?? []).map { 0.5 * $0 - 2 * $1 }
      }, "sum")
    // One file at strength 1 whose factors are 1 is copied bit by bit.
    _ = try LoRAMerge.sum([(second, 1)], as: .bare, path: path)
    #expect(try deltas(try LoRAFile(path: path)) == b)
    #expect(throws: LoRAError.self) { try LoRAMerge.sum([(second, 0)], as: .bare, path: path) }
    var wide = SafetensorsWriter()
    wide.add("blocks.0.attn1.to_q.lora_A.weight", Tensor.zeros([1, 9]))
    wide.add("blocks.0.attn1.to_q.lora_B.weight", Tensor.zeros([9, 1]))
    let other = try Self.write(wide, folder, "wide")
    let error = #expect(throws: LoRAError.self) {
      try LoRAMerge.sum([(second, 1), (other, 1)], as: .bare, path: path)
    }
    #expect(error?.description.contains("[9, 9] and that of the files before it [6, 4]") == true)
  }

  @Test func mergeRefusesAdaptersOfDifferentModels() throws {
    let folder = TemporaryFolder()
    func file(_ module: String) throws -> LoRAFile {
      var writer = SafetensorsWriter()
      writer.add("\(module).lora_A.weight", Tensor.zeros([1, 4]))
      writer.add("\(module).lora_B.weight", Tensor.zeros([4, 1]))
      return try Self.write(writer, folder, module)
    }
    let wan = try file("blocks.0.attn1.to_q")
    let style = try file("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q")
    let motion = try file("unet.down_blocks.0.motion_modules.0.transformer_blocks.0.attn1.to_q")
    let path = folder.path + "/sum.safetensors"
    let error = #expect(throws: LoRAError.self) {
      try LoRAMerge.sum([(wan, 1), (style, 1)], as: .diffusers, path: path)
    }
    #expect(error?.description.contains("is made for Wan and") == true)
    #expect(error?.description.contains("for Stable Diffusion") == true)
    // Motion modules stand between the layers of Stable Diffusion; a file at strength 0 is not looked at.
    _ = try LoRAMerge.sum([(style, 1), (motion, 1), (wan, 0)], as: .diffusers, path: path)
    #expect(try LoRAFile(path: path).layers.count == 2)
  }

  /// Pairs, whole differences and biases of one layer add up to one whole difference.
  @Test func mergeMixesPairsAndDifferences() throws {
    let folder = TemporaryFolder()
    let stem = "diffusion_model.blocks.0.self_attn.q"
    let (full, bias) = (TinyLoRA.numbers([6, 4], 5), TinyLoRA.numbers([6], 6))
    var writer = SafetensorsWriter()
    writer.add(stem + ".diff", full)
    writer.add(stem + ".diff_b", bias)
    let difference = try Self.write(writer, folder, "difference")
    let pairs = try TinyLoRA().file()
    let path = folder.path + "/sum.safetensors"
    _ = try LoRAMerge.sum([(pairs, 2), (difference, 0.5)], as: .comfyUI, path: path)
    let merged = try LoRAFile(path: path)
    let layer = try #require(merged.layers.first { $0.module == "blocks.0.attn1.to_q" })
    let update = try merged.load(layer)
    guard case .full(let weight)? = update.weight else {
      Issue.record("\(update)")
      return
    }
    let pair = try #require(try deltas(pairs)["blocks.0.attn1.to_q"])
    let expected = zip(pair, full.array()).map { Float(2 * $0 + 0.5 * Double($1)) }
    #expect(Difference(weight, Tensor(expected, shape: [6, 4])).relative <= 1e-6)
    #expect(update.bias?.array() == bias.array().map { $0 * 0.5 })
    #expect(merged.layers.count == 2)
  }
}
