import DiffusionLayers
import DiffusionModels
import TensorCore
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// One adapter under every naming, through a whole model.
@Suite struct AdapterNamingTests {
  private static let model = Fixture.path("wan_tiny")

  /// The model's prediction for a fixed input with the adapter at strength 0.7.
  private func predict(_ adapter: LoRAFile?) throws -> [Float] {
    let directory = try ModelDirectory(Self.model)
    let base = try SafetensorsSource(directory, component: "transformer")
    let name = "transformer/config.json"
    let config = try WanConfig(.object(try directory.json(name)), file: name)
    let source = AdaptedSource(
      base, adapters: try adapter.map { [try $0.match(against: base, strict: true)] } ?? [])
    let transformer = try WanTransformer(Weights(source), config)
    try source.checkApplied()
    let golden = try SafetensorsFile(path: Fixture.path("wan_tiny_golden.safetensors"))
    return try transformer(
      try golden.load("forward.in.latents"), timesteps: [417], context: try golden.load("forward.in.embeds"),
      RunContext(strengths: [[0.7]])
    ).array()
  }

  @Test func everyNamingGivesTheSameBits() throws {
    let file = try LoRAFile(path: Fixture.path("wan_tiny_loras/wan_tiny.peft.safetensors"))
    let expected = try predict(file)
    #expect(try predict(nil) != expected)
    let path = "/tmp/videolora-naming-\(getpid()).safetensors"
    defer { unlink(path) }
    for dialect in [LoRADialect.peft, .bare, .original, .diffSynth, .comfyUI, .kohya, .videoXFun] {
      #expect(try LoRAWriter.convert(file, to: dialect, path: path) == [])
      let renamed = try LoRAFile(path: path)
      #expect(renamed.dialect == dialect)
      #expect(try predict(renamed) == expected, "\(dialect)")
    }
  }
}
