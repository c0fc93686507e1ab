import DiffusionLayers
import DiffusionPipelines
import TensorCore
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// The engine against diffusers: denoiser calls, adapters, sampler trajectories.
@Suite struct ReplayTests {
  @Test func wanCasesAgreeWithinTheirFloors() throws {
    let output = "/tmp/videolora-replay-\(getpid()).safetensors"
    defer { unlink(output) }
    let outcome = try Replay.run(
      model: Fixture.path("wan_tiny"), golden: Fixture.path("wan_tiny_golden.safetensors"),
      loras: Fixture.path("wan_tiny_loras"), output: output)
    #expect(outcome.skipped.isEmpty, "\(outcome.skipped)")
    let golden = try Fixture.safetensors("wan_tiny_golden")
    let replay = try SafetensorsFile(path: output)
    let json = try JSONValue.parse(
      try bytes(of: Fixture.path("wan_tiny_golden.json")), file: "wan_tiny_golden.json")
    let expected = golden.names.filter { $0.contains(".out.") && !$0.hasSuffix("frames") }
    #expect(expected.count >= 11)
    for name in expected {
      let caseName = String(name.split(separator: ".out.")[0])
      let floor = json.object?[caseName]?.object?["floor"]?.double ?? 3e-6
      let difference = Difference(try replay[name], try golden[name])
      #expect(difference.relative <= 100 * floor, "\(name): \(difference), floor \(floor)")
    }
  }

  @Test func textCasesGiveHiddenStatesAndIds() throws {
    let output = "/tmp/videolora-replay-text-\(getpid()).safetensors"
    defer { unlink(output) }
    let outcome = try Replay.run(
      model: Fixture.path("wan_tiny"), golden: Fixture.path("text_golden.safetensors"), loras: nil,
      output: output)
    #expect(outcome.done == (0..<6).map { "text.\($0)" })
    let golden = try Fixture.safetensors("text_golden")
    let replay = try SafetensorsFile(path: output)
    for name in outcome.done {
      let difference = Difference(try replay["\(name).out.hidden"], try golden["\(name).out.hidden"])
      #expect(difference.relative <= 3e-6, "\(name): \(difference)")
      let ids = try golden.integers("\(name).in.ids_spm").map(Float.init)
      #expect(try replay["\(name).out.ids"].array() == ids)
    }
  }

  private func bytes(of path: String) throws -> [UInt8] {
    let source = try ByteSource.open(path)
    return try source.bytes(0..<source.count)
  }

  @Test func flowMatchEulerSchedule() throws {
    let golden = try Fixture.safetensors("flow_match_euler")
    for shift in [1, 3, 5] {
      for steps in [1, 4, 8, 20] {
        let name = "shift\(shift).steps\(steps)"
        let scheduler = FlowMatchEuler(FlowMatchEuler.Config(shift: Double(shift)), steps: steps)
        #expect(
          Difference(Tensor(scheduler.sigmas, shape: [steps + 1]), try golden[name + ".out.sigmas"]).relative
            < 2e-7)
        #expect(
          Difference(Tensor(scheduler.timesteps, shape: [steps]), try golden[name + ".out.timesteps"])
            .relative < 2e-7)
        guard golden.entries[name + ".in.x"] != nil else { continue }
        var x = try golden[name + ".in.x"]
        for index in 0..<steps {
          let velocity = try golden[name + ".in.velocities"].select(0, index)
          x = scheduler.step(index, sample: x, modelOutput: velocity) { Tensor.zeros(x.shape) }
          let difference = Difference(x, try golden[name + ".out.steps"].select(0, index))
          #expect(difference.relative < 1e-6, "\(name) step \(index): \(difference)")
        }
      }
    }
  }

  @Test func strengthChoosesThePartOfTheSchedule() {
    let config = FlowMatchEuler.Config(shift: 3)
    for (steps, strength, count) in [
      (8, Float(0.5), 4), (8, 1, 8), (8, 0.01, 1), (4, 0.3, 1), (20, 0.99, 20),
    ] {
      let scheduler = FlowMatchEuler(config, steps: steps, strength: strength)
      #expect(scheduler.timesteps.count == count)
      #expect(scheduler.sigmas.last == 0)
      #expect(zip(scheduler.sigmas, scheduler.sigmas.dropFirst()).allSatisfy { $0 > $1 })
    }
    #expect(FlowMatchEuler(config, steps: 8, strength: 1).sigmas[0] == 1)
    #expect(abs(FlowMatchEuler(config, steps: 8, strength: 0.5).sigmas[0] - 0.75) < 1e-6)
  }

  @Test func tagModelSampleAgreesWithTheReference() throws {
    let golden = try Fixture.safetensors("tag_model_golden")
    let model = try VideoModel.load(Fixture.path("tag_model"))
    let captions = [["disc", "flat", "right", "static"], ["square", "hatched", "pan_left"]]
    for (index, caption) in captions.enumerated() {
      var stages = StageSeconds()
      let expected = try golden["sample"].narrow(0, from: index, length: 1)  // [1, 3, 4, 16, 24] in [-1, 1]
      let frames = try TextToVideo.run(
        model, settings: SamplerSettings(steps: 4, guidanceScale: 3), caption: caption, frames: 4, width: 24,
        height: 16, noise: try golden["noise"].narrow(0, from: index, length: 1), stages: &stages)
      let bytes = expected.select(0, 0).permuted([1, 2, 3, 0]).array().map {
        Int(max(0, min(255, ($0 * 127.5 + 127.5).rounded(.toNearestOrEven))))
      }
      let found = frames.flatMap { $0.pixels.map(Int.init) }
      // Bytes differ by one at most, and only where rounding is a tie within the tolerance.
      let off = zip(found, bytes).filter { abs($0 - $1) > 0 }
      #expect(
        found.count == bytes.count && off.allSatisfy { abs($0.0 - $0.1) <= 1 } && off.count < 20,
        "\(off.count)")
    }
  }
}
