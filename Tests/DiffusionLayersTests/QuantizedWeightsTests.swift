import DiffusionLayers
import TensorCore
import TestSupport
import Testing

/// 8-bit matrices in files: written, read, and refused where they are damaged.
@Suite struct QuantizedWeightsTests {
  private func source(_ matrix: Tensor) -> ResidentSource {
    ResidentSource(
      name: "m",
      weights: [
        "a.weight": Weight(matrix), "a.bias": Weight(Tensor([1, 2, 3], shape: [3])),
        "b.weight": Weight(matrix).converted(to: .bfloat16),
      ])
  }

  @Test func whatIsWrittenComesBack() throws {
    let folder = TemporaryFolder()
    let path = folder.path + "/q.safetensors"
    var random = TorchRandom(seed: 1)
    let matrix = random.randn([3, 40])
    let original = source(matrix)
    let summary = try QuantizedWriter.write(
      original, to: path, selects: { name, _ in name == "a.weight" }, progress: { _, _ in })
    #expect(summary.matrices == 1 && summary.tensors == 4 && summary.bytes == 120 + 12 + 12 + 240)
    let file = try SafetensorsFile(path: path)
    #expect(file.metadata("videolora.quantization")?.contains("int8") == true)
    #expect(file.entries["a.weight"]?.dtype == .int8 && file.entries["a.weight_scale"]?.shape == [3])
    let found = try SafetensorsSource(file)
    #expect(found.names.sorted() == ["a.bias", "a.weight", "b.weight"])
    #expect(found.parameters == 243 && found.residentBytes == 120 + 12 + 12 + 240)
    #expect(found.format(of: "a.weight") == .int8 && found.format(of: "b.weight") == .bfloat16)
    let expected = Weight(matrix).converted(to: .int8)
    let read = try found.weight("a.weight", shape: [3, 40])
    #expect(read.format == .int8 && read.floats().array() == expected.floats().array())
    #expect(try found.load("a.weight", shape: [3, 40]).array() == expected.floats().array())
    #expect(
      try found.rows("a.weight", shape: [3, 40], in: 1..<3).array()
        == Array(expected.floats().array().suffix(80)))
    #expect(try found.load("a.bias", shape: [3]).array() == [1, 2, 3])
    #expect(
      try found.weight("b.weight", shape: [3, 40]).floats().array()
        == original.weight("b.weight", shape: [3, 40]).floats().array())
    // A format asked for while loading.
    let wide = try ResidentSource(
      loading: found, format: { _, _, stored in stored == .int8 ? .float32 : stored })
    #expect(wide.format(of: "a.weight") == .float32 && wide.format(of: "b.weight") == .bfloat16)
  }

  /// `a.weight` I8 [2, 4] with an entry for its scales.
  private func file(_ scale: String?, weight: String = "[2,4]", data: [UInt8]) throws -> SafetensorsFile {
    let scales = scale.map { #","a.weight_scale":\#($0)"# } ?? ""
    return try SafetensorsFile(
      source: memory(
        crafted(
          Array(#"{"a.weight":{"dtype":"I8","shape":\#(weight),"data_offsets":[0,8]}\#(scales)}"#.utf8),
          data: data)))
  }

  @Test func damageIsNamed() throws {
    let bytes = [UInt8](repeating: 1, count: 8)
    let good = littleEndian(Float(0.5).bitPattern) + littleEndian(Float(2).bitPattern)
    let scale = #"{"dtype":"F32","shape":[2],"data_offsets":[8,16]}"#
    let source = try SafetensorsSource(try file(scale, data: bytes + good))
    #expect(try source.load("a.weight", shape: [2, 4]).array() == [0.5, 0.5, 0.5, 0.5, 2, 2, 2, 2])

    func message(_ body: () throws -> Void) -> String {
      do { try body() } catch { return "\(error)" }
      return "nothing was thrown"
    }
    for (file, part) in [
      (try file(nil, data: bytes), "no scales"),
      (
        try file(#"{"dtype":"F32","shape":[1],"data_offsets":[8,12]}"#, data: bytes + good.prefix(4)),
        "shape [2]"
      ),
      (try file(#"{"dtype":"F32","shape":[2,1],"data_offsets":[8,16]}"#, data: bytes + good), "shape [2]"),
      (
        try file(#"{"dtype":"F16","shape":[2],"data_offsets":[8,12]}"#, data: bytes + good.prefix(4)),
        "dtype F32"
      ),
      (
        try file(
          #"{"dtype":"F32","shape":[8],"data_offsets":[8,40]}"#, weight: "[8]",
          data: bytes + good + good + good + good), "no matrix"
      ),
    ] {
      let found = message { _ = try SafetensorsSource(file) }
      #expect(
        found.contains(part) && found.contains("a.weight") && found.contains("videolora quantize"), "\(found)"
      )
    }
    let nan = littleEndian(Float.nan.bitPattern) + littleEndian(Float(2).bitPattern)
    let bad = message {
      _ = try SafetensorsSource(try file(scale, data: bytes + nan), checkFinite: false).load(
        "a.weight", shape: [2, 4])
    }
    #expect(bad.contains("a.weight_scale") && bad.contains("NaN"), "\(bad)")
    let low = message {
      _ = try SafetensorsSource(try file(scale, data: [1, 2, 3, 0x80, 0, 0, 0, 0] + good)).load(
        "a.weight", shape: [2, 4])
    }
    #expect(low.contains("-128"), "\(low)")
    #expect(message { _ = try file(scale, data: bytes + good.prefix(4)) }.contains("cut off"))
  }
}
