import DiffusionLayers
import DiffusionPipelines
import Foundation
import TensorCore
import TestSupport
import Testing

/// Narrow arithmetic on the builtin model: how far frames are from those in f32, and models written with 8 bits.
@Suite struct PrecisionTests {
  private static let settings = SamplerSettings(steps: 4, guidanceScale: 1, seed: 5)

  private func transformed(_ model: VideoModel, clip: Int) throws -> [UInt8] {
    var stream = try VideoStream(model: model, clipLength: 4, overlap: 0)
    var results: [Frame] = []
    for frame in VideoStreamTests.frames(4 + 4 * clip, width: 96, height: 64).suffix(4) {
      results += try stream.push(
        frame, strength: 0.5, adapterStrengths: [], settings: Self.settings)
    }
    results += try stream.drain(settings: Self.settings)
    return results.flatMap(\.pixels)
  }

  private func psnr(_ a: [UInt8], _ b: [UInt8]) -> Double {
    let squares = zip(a, b).reduce(0.0) { $0 + Double((Int($1.0) - Int($1.1)) * (Int($1.0) - Int($1.1))) }
    return 10 * log10(255 * 255 * Double(a.count) / max(squares, 1e-9))
  }

  private func load(_ path: String = "builtin:nano", precision: Precision) throws -> VideoModel {
    try VideoModel.load(path, options: LoadOptions(precision: precision))
  }

  @Test func framesStayClose() throws {
    let (f32, bf16, int8) = (
      try load(precision: .f32), try load(precision: .bf16), try load(precision: .int8)
    )
    #expect(f32.info.precision == .f32 && bf16.info.precision == .bf16 && int8.info.precision == .int8)
    #expect(int8.info.weightBytes < bf16.info.weightBytes && bf16.info.weightBytes <= f32.info.weightBytes)
    for clip in 0..<2 {
      let exact = try transformed(f32, clip: clip)
      let (half, small) = (
        psnr(try transformed(bf16, clip: clip), exact), psnr(try transformed(int8, clip: clip), exact)
      )
      #expect(half >= 40, "bf16 \(half) dB")
      #expect(small >= 32, "int8 \(small) dB")
      #expect(small < 99, "int8 changes nothing")
    }
  }

  @Test func quantisedModels() throws {
    let folder = NSTemporaryDirectory() + "videolora-int8-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let output = folder + "/nano-int8"
    let summary = try ModelQuantizer.run("builtin:nano", output: output)
    #expect(summary.matrices == 5 * 10 && summary.bytesAfter < summary.bytesBefore)

    // What was quantised when it was written is what is quantised when it is loaded.
    let (stored, converted) = (try load(output, precision: .auto), try load(precision: .int8))
    #expect(stored.info.precision == .int8 && stored.info.weightBytes == converted.info.weightBytes)
    #expect(stored.info.parameters == converted.info.parameters)
    #expect(try transformed(stored, clip: 0) == transformed(converted, clip: 0))
    // The same numbers in f32 and bf16.
    let wide = try load(output, precision: .f32)
    #expect(wide.info.precision == .f32 && wide.info.weightBytes > stored.info.weightBytes)
    #expect(psnr(try transformed(wide, clip: 0), try transformed(stored, clip: 0)) > 32)
    #expect(try load(output, precision: .bf16).info.precision == .bf16)

    #expect(throws: PipelineError.self) { try ModelQuantizer.run(output, output: folder + "/again") }
    #expect(throws: WeightsError.self) { try ModelQuantizer.run("builtin:nano", output: output) }
    #expect(throws: WeightsError.self) { try ModelQuantizer.run("builtin:nano", output: folder + "/no/such") }
    #expect(throws: WeightsError.self) { try ModelQuantizer.run(folder + "/nothing", output: folder + "/x") }
    let stop = Cancellation()
    stop.cancel()
    #expect(throws: Cancelled.self) {
      try ModelQuantizer.run("builtin:nano", output: folder + "/stopped", cancellation: stop)
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["nano-int8"])
  }

  /// A UNet and its motion modules, which stand in folders of their own.
  @Test func quantisedAnimateDiff() throws {
    let folder = NSTemporaryDirectory() + "videolora-int8-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let (source, output) = (Fixture.path("animatediff"), folder + "/int8")
    let summary = try ModelQuantizer.run(source, output: output)
    #expect(summary.matrices > 0 && summary.bytesAfter < summary.bytesBefore)
    let stored = try VideoModel.load(output)
    let converted = try VideoModel.load(source, options: LoadOptions(precision: .int8))
    #expect(stored.info.precision == .int8 && stored.info.weightBytes == converted.info.weightBytes)
    func picture(_ model: VideoModel) throws -> [Frame] {
      var stages = StageSeconds()
      return try TextToVideo.run(
        model, settings: SamplerSettings(prompt: "a red fox", steps: 2), frames: 4, width: 40, height: 32,
        stages: &stages)
    }
    #expect(try picture(stored) == picture(converted))
    #expect(throws: PipelineError.self) { try ModelQuantizer.run(output, output: folder + "/again") }
  }

  @Test func budgetsFollowThePrecision() throws {
    let needed = UInt64(try load(precision: .f32).info.weightBytes)
    #expect(throws: PipelineError.self) {
      try VideoModel.load("builtin:nano", options: LoadOptions(precision: .f32, memoryBudget: needed - 1))
    }
    let small = try VideoModel.load(
      "builtin:nano", options: LoadOptions(precision: .int8, memoryBudget: needed - 1))
    #expect(small.info.weightBytes < needed)
  }

  @Test func adaptersActBesideEveryPrecision() throws {
    // A LoRA is computed from the unquantised input, so strength 0 is the model without it.
    for precision in [Precision.bf16, .int8] {
      let plain = try load(precision: precision)
      let adapted = try plain.adapted(with: [AdapterRequest(path: "builtin:poster")])
      func frames(_ strength: Float) throws -> [UInt8] {
        var stream = try VideoStream(model: adapted, clipLength: 4, overlap: 0)
        var results: [Frame] = []
        for frame in VideoStreamTests.frames(4, width: 32, height: 32) {
          results += try stream.push(
            frame, strength: 0.5, adapterStrengths: [strength], settings: Self.settings)
        }
        return (results + (try stream.drain(settings: Self.settings))).flatMap(\.pixels)
      }
      var stream = try VideoStream(model: plain, clipLength: 4, overlap: 0)
      var results: [Frame] = []
      for frame in VideoStreamTests.frames(4, width: 32, height: 32) {
        results += try stream.push(frame, strength: 0.5, adapterStrengths: [], settings: Self.settings)
      }
      results += try stream.drain(settings: Self.settings)
      #expect(try frames(0) == results.flatMap(\.pixels))
      #expect(try frames(1) != results.flatMap(\.pixels))
    }
  }
}
