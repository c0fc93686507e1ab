import DiffusionPipelines
import TensorCore
import TestSupport
import Testing

/// Windowed video-to-video on a tiny random model (speed) and on the builtin one (meaning).
@Suite struct VideoStreamTests {
  private static let tiny = Result { try VideoModel.load(Fixture.path("tag_model")) }
  private let settings = SamplerSettings(steps: 2, guidanceScale: 1, seed: 5)

  /// A moving gradient with some texture.
  static func frames(_ count: Int, width: Int = 24, height: Int = 16) -> [Frame] {
    (0..<count).map { index in
      var pixels: [UInt8] = []
      for y in 0..<height {
        for x in 0..<width {
          let value = (x * 8 + y * 5 + index * 3) % 256
          pixels += [UInt8(value), UInt8(255 - value), UInt8((value * 7 + x * y) % 256)]
        }
      }
      return Frame(width: width, height: height, pixels: pixels)
    }
  }

  private func run(
    _ frames: [Frame], strength: (Int) -> Float, clipLength: Int = 4, overlap: Int = 1,
    model: VideoModel? = nil,
    adapters: (Int) -> [Float] = { _ in [] }, settings: SamplerSettings? = nil
  ) throws -> [Frame] {
    var stream = try VideoStream(
      model: try model ?? Self.tiny.get(), clipLength: clipLength, overlap: overlap)
    var results: [Frame] = []
    for (index, frame) in frames.enumerated() {
      results += try stream.push(
        frame, strength: strength(index), adapterStrengths: adapters(index),
        settings: settings ?? self.settings)
    }
    results += try stream.drain(settings: settings ?? self.settings)
    #expect(stream.pending == 0)
    #expect(stream.stages.frames == frames.count)
    return results
  }

  @Test(arguments: [0, 1, 2, 3, 4, 5, 7, 8, 10, 13], [0, 1, 3]) func asManyOutAsIn(_ count: Int, overlap: Int)
    throws
  {
    let results = try run(Self.frames(count), strength: { _ in 0.5 }, overlap: overlap)
    #expect(results.count == count)
    #expect(results.allSatisfy { $0.width == 24 && $0.height == 16 })
  }

  @Test func anySizeComesBack() throws {
    for (width, height) in [(17, 16), (25, 19), (16, 31)] {
      let results = try run(Self.frames(5, width: width, height: height), strength: { _ in 0.7 })
      #expect(results.count == 5 && results.allSatisfy { $0.width == width && $0.height == height })
    }
  }

  @Test func strengthZeroIsTheSourceByteForByte() throws {
    let source = Self.frames(11)
    #expect(try run(source, strength: { _ in 0 }) == source)
    // Single frames at 0 inside transformed windows stay untouched too.
    let mixed = try run(source, strength: { $0 % 3 == 0 ? 0 : 0.6 })
    for index in source.indices { #expect((mixed[index] == source[index]) == (index % 3 == 0), "\(index)") }
  }

  @Test func strengthOneIgnoresTheSource() throws {
    let other = Self.frames(8).map { Frame(width: 24, height: 16, pixels: $0.pixels.map { 255 - $0 }) }
    #expect(try run(Self.frames(8), strength: { _ in 1 }) == run(other, strength: { _ in 1 }))
    #expect(try run(Self.frames(8), strength: { _ in 0.9 }) != run(other, strength: { _ in 0.9 }))
  }

  @Test(arguments: [SchedulerKind.unipc, .dpmSolverMultistep, .lcm])
  func strengthMeansTheSameToEverySampler(_ kind: SchedulerKind) throws {
    let settings = SamplerSettings(steps: 3, guidanceScale: 1, scheduler: kind, seed: 5)
    let source = Self.frames(8)
    let other = source.map { Frame(width: 24, height: 16, pixels: $0.pixels.map { 255 - $0 }) }
    func run(_ frames: [Frame], _ strength: Float) throws -> [Frame] {
      try self.run(frames, strength: { _ in strength }, settings: settings)
    }
    #expect(try run(source, 0) == source)
    #expect(try run(source, 1) == run(other, 1))
    #expect(try run(source, 0.6) == run(source, 0.6))
    #expect(try run(source, 0.6) != run(other, 0.6))
    #expect(try run(source, 0.6) != run(source, 0.7))
    let euler = SamplerSettings(steps: 3, guidanceScale: 1, seed: 5)
    #expect(try run(source, 0.6) != self.run(source, strength: { _ in 0.6 }, settings: euler))
  }

  @Test func samplersForOtherModelsAreRefused() throws {
    for kind in [SchedulerKind.ddim, .euler, .eulerAncestral] {
      let settings = SamplerSettings(steps: 2, scheduler: kind)
      #expect(throws: PipelineError.self) {
        try run(Self.frames(4), strength: { _ in 0.5 }, settings: settings)
      }
    }
  }

  @Test func seedsRepeatAndDiffer() throws {
    let source = Self.frames(6)
    let again = SamplerSettings(steps: 2, guidanceScale: 1, seed: 6)
    #expect(try run(source, strength: { _ in 0.5 }) == run(source, strength: { _ in 0.5 }))
    #expect(try run(source, strength: { _ in 0.5 }) != run(source, strength: { _ in 0.5 }, settings: again))
  }

  @Test func resetStartsTheSameStreamAnew() throws {
    var stream = try VideoStream(model: try Self.tiny.get(), clipLength: 4, overlap: 1)
    func all() throws -> [Frame] {
      var results: [Frame] = []
      for frame in Self.frames(6) {
        results += try stream.push(frame, strength: 0.5, adapterStrengths: [], settings: settings)
      }
      return results + (try stream.drain(settings: settings))
    }
    let first = try all()
    _ = try stream.push(Self.frames(1)[0], strength: 0.5, adapterStrengths: [], settings: settings)
    stream.reset()
    #expect(stream.pending == 0)
    #expect(try all() == first)
  }

  @Test func cancellationLeavesAnEmptyStream() throws {
    var stream = try VideoStream(model: try Self.tiny.get(), clipLength: 2, overlap: 0)
    let cancellation = Cancellation()
    let monitor = RunMonitor(cancellation: cancellation) { progress in
      if progress.step == 1 { cancellation.cancel() }
    }
    let frames = Self.frames(2)
    _ = try stream.push(frames[0], strength: 0.9, adapterStrengths: [], settings: settings, monitor: monitor)
    #expect(throws: Cancelled.self) {
      try stream.push(frames[1], strength: 0.9, adapterStrengths: [], settings: settings, monitor: monitor)
    }
    #expect(stream.pending == 0)
  }

  @Test func badSettingsAreNamed() throws {
    let model = try Self.tiny.get()
    #expect(throws: PipelineError.self) { try VideoStream(model: model, clipLength: 4, overlap: 4) }
    #expect(throws: PipelineError.self) { try VideoStream(model: model, clipLength: 5000) }
    for strength in [Float.nan, -0.1, 1.5] {
      var stream = try VideoStream(model: model, clipLength: 2, overlap: 0)
      #expect(throws: PipelineError.self) {
        try stream.push(Self.frames(1)[0], strength: strength, adapterStrengths: [], settings: settings)
      }
    }
    var sizes = try VideoStream(model: model, clipLength: 4, overlap: 0)
    _ = try sizes.push(Self.frames(1)[0], strength: 0.5, adapterStrengths: [], settings: settings)
    #expect(throws: PipelineError.self) {
      try sizes.push(Self.frames(1, width: 32)[0], strength: 0.5, adapterStrengths: [], settings: settings)
    }
    var stages = StageSeconds()
    for (frames, width, height) in [(0, 24, 16), (4, 0, 16), (4, 24, 1_000_000), (5000, 24, 16)] {
      #expect(throws: PipelineError.self) {
        try TextToVideo.run(
          model, settings: settings, frames: frames, width: width, height: height, stages: &stages)
      }
    }
    // More memory than the machine has is refused before anything is allocated.
    #expect(throws: PipelineError.self) {
      try TextToVideo.run(
        model, settings: settings, frames: 4000, width: 16000, height: 16000, stages: &stages)
    }
    var stream = try VideoStream(model: model, clipLength: 1, overlap: 0)
    #expect(throws: (any Error).self) {
      try stream.push(
        Self.frames(1)[0], strength: 0.5, adapterStrengths: [], settings: SamplerSettings(prompt: "zebra"))
    }
  }

  @Test func memoryBudget() throws {
    #expect(throws: PipelineError.self) {
      try VideoModel.load(Fixture.path("tag_model"), options: LoadOptions(memoryBudget: 1000))
    }
    let weights = try Self.tiny.get().info.weightBytes
    let model = try VideoModel.load(
      Fixture.path("tag_model"), options: LoadOptions(memoryBudget: UInt64(weights) + 1000))
    #expect(throws: PipelineError.self) { try run(Self.frames(4), strength: { _ in 0.5 }, model: model) }
  }
}
