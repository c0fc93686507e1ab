import DiffusionLayers
import DiffusionPipelines
import TensorCore
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// Adapters in a run: strengths per frame, sharing, exact removal.
@Suite struct AdapterTests {
  private static let base = Result { try VideoModel.load("builtin:nano") }
  private static let adapter = "builtin:poster"

  private func transform(_ model: VideoModel, _ strengths: (Int) -> Float, count: Int = 8) throws -> [Frame] {
    var stream = try VideoStream(model: model)
    let settings = SamplerSettings(steps: 2, guidanceScale: 1, seed: 3)
    var results: [Frame] = []
    for (index, frame) in VideoStreamTests.frames(count, width: 64, height: 48).enumerated() {
      results += try stream.push(
        frame, strength: 0.6, adapterStrengths: [strengths(index)], settings: settings)
    }
    return results + (try stream.drain(settings: settings))
  }

  /// Mean absolute difference per frame.
  private func change(_ a: [Frame], _ b: [Frame]) -> [Double] {
    zip(a, b).map { x, y in
      Double(zip(x.pixels, y.pixels).reduce(0) { $0 + abs(Int($1.0) - Int($1.1)) }) / Double(x.pixels.count)
    }
  }

  @Test func strengthZeroAndNoAdapterGiveTheBase() throws {
    let base = try Self.base.get()
    let adapted = try base.adapted(with: [AdapterRequest(path: Self.adapter)])
    #expect(adapted.adapters.count == 1 && adapted.adapters[0].matchedKeys == adapted.adapters[0].totalKeys)
    let plain = try transform(base) { _ in 1 }
    #expect(try transform(adapted) { _ in 0 } == plain)
    #expect(try transform(try adapted.adapted(with: [])) { _ in 1 } == plain)
    #expect(try transform(adapted) { _ in 1 } != plain)
  }

  @Test func animatedStrengthActsPerFrame() throws {
    let adapted = try Self.base.get().adapted(with: [AdapterRequest(path: Self.adapter)])
    let off = try transform(adapted) { _ in 0 }
    let step = change(try transform(adapted) { $0 < 4 ? 0 : 1 }, off)
    let before = step[..<4].reduce(0, +) / 4
    let after = step[4...].reduce(0, +) / 4
    #expect(after > 3 * before, "before \(before), after \(after)")
  }

  @Test func equalStrengthsAnimatedOrNotAgree() throws {
    // The per-token path (strengths that differ) at values so close to equal that results must match.
    let adapted = try Self.base.get().adapted(with: [AdapterRequest(path: Self.adapter)])
    let constant = try transform(adapted) { _ in 0.75 }
    let nearly = try transform(adapted) { $0 == 0 ? 0.750001 : 0.75 }
    #expect(change(constant, nearly).allSatisfy { $0 < 0.05 })
  }

  @Test func refusals() throws {
    let base = try Self.base.get()
    #expect(throws: PipelineError.self) {
      try transform(try base.adapted(with: [AdapterRequest(path: Self.adapter)])) { _ in .infinity }
    }
    #expect(throws: (any Error).self) {
      try base.adapted(with: [AdapterRequest(path: "/nonexistent.safetensors")])
    }
    #expect(throws: (any Error).self) {
      // An adapter of another width.
      try base.adapted(with: [AdapterRequest(path: Fixture.path("wan_tiny_loras/wan_tiny.peft.safetensors"))])
    }
    // Half of the keys name modules that the model does not have.
    let path = "/tmp/videolora-half-\(getpid()).safetensors"
    defer { unlink(path) }
    let file = try LoRAFile(path: Self.adapter)
    var writer = SafetensorsWriter()
    for (index, layer) in file.layers.enumerated() {
      let pair = try #require(try file.load(layer).pair)
      let module = index % 2 == 0 ? layer.module : "nowhere." + layer.module
      writer.add("transformer.\(module).lora_A.weight", pair.down)
      writer.add("transformer.\(module).lora_B.weight", pair.up)
    }
    try writer.write(to: path)
    #expect(throws: (any Error).self) { try base.adapted(with: [AdapterRequest(path: path)]) }
    let relaxed = try base.adapted(with: [AdapterRequest(path: path, strict: false)])
    #expect(relaxed.adapters[0].matchedKeys < relaxed.adapters[0].totalKeys)
    #expect(!relaxed.adapters[0].unmatched.isEmpty)
  }
}
