import DiffusionLayers
import DiffusionPipelines
import Glibc
import TensorCore
import TestSupport
import Testing

/// Strengths of adapters that have a strength token, and adapters beside each other, in whole runs.
@Suite struct ControlStrengthTests {
  private static let base = Result { try VideoModel.load(Fixture.path("tag_model")) }
  private static let width = 32

  /// An adapter on self-attention, with a strength token unless `isPlain`.
  private func adapter(
    _ seed: UInt64, isPlain: Bool = false, width: Int = 32, biases: Int = 2, scale: Float = 1,
    header: AdapterHeader? = nil
  ) throws -> String {
    var random = TorchRandom(seed: seed)
    let path = "/tmp/videolora-strength-\(getpid())-\(UInt64.random(in: 0...UInt64.max)).safetensors"
    var writer = SafetensorsWriter(metadata: header?.metadata ?? [("role", "camera")])
    for block in 0..<2 {
      for name in ["attn1.to_q", "attn1.to_v"] {
        let stem = "transformer.blocks.\(block).\(name)"
        writer.add(stem + ".lora_A.weight", random.randn([2, Self.width]) * 0.2)
        writer.add(stem + ".lora_B.weight", random.randn([Self.width, 2]) * (0.2 * scale))
      }
    }
    if !isPlain {
      ControlToken(
        coefficients: random.randn([2, width]) * 3,
        bias: Tensor([Float](repeating: 2, count: biases), shape: [biases])
      ).add(to: &writer)
    }
    try writer.write(to: path)
    return path
  }

  private func frames(
    _ paths: [String], _ strengths: [[Float]], compose: ComposeMode = .sum
  ) throws -> [Frame] {
    let model = try Self.base.get().adapted(with: paths.map { AdapterRequest(path: $0) })
    var stages = StageSeconds()
    return try TextToVideo.run(
      model,
      settings: SamplerSettings(
        prompt: "disc flat", steps: 2, guidanceScale: 2, seed: 4, compose: compose),
      frames: 4, width: 24, height: 16, adapterStrengths: strengths, stages: &stages)
  }

  private func change(_ a: [Frame], _ b: [Frame]) -> [Double] {
    zip(a, b).map { x, y in
      Double(zip(x.pixels, y.pixels).reduce(0) { $0 + abs(Int($1.0) - Int($1.1)) }) / Double(x.pixels.count)
    }
  }

  @Test func strengthDrivesTheToken() throws {
    let path = try adapter(1)
    defer { unlink(path) }
    let base = try frames([], [])
    // 0 over the whole clip is off, bit for bit; 0 in a part of it is not.
    #expect(try frames([path], [[0]]) == base)
    let full = try frames([path], [[1]])
    let half = try frames([path], [[0.5]])
    #expect(full != base && half != full)
    #expect(try frames([path], [[0, 0, 0, 1]]) != base)
    // Beyond the trained range the strength stays at its end.
    #expect(try frames([path], [[3]]) == full)
    #expect(try frames([path], [[1, 1, 1, 1]]) == full)
    let model = try Self.base.get().adapted(with: [AdapterRequest(path: path)])
    let report = model.adapters[0]
    #expect(report.trainedRange == 0...1 && report.matchedKeys == report.totalKeys)
    #expect(report.warning(strength: 1) == nil && report.warning(strength: 1.5)?.contains("0.0…1.0") == true)
  }

  @Test func animatedStrengthActsOnItsFrames() throws {
    let path = try adapter(2)
    defer { unlink(path) }
    let low = try frames([path], [[0.01]])
    let late = change(try frames([path], [[0.01, 0.01, 0.01, 1]]), low)
    #expect(late[3] > 1.5 * late[0], "\(late)")
  }

  @Test func aCalibrationChangesTheScale() throws {
    var header = AdapterHeader()
    header.calibration = [0, 0.25, 1]
    let (plain, calibrated) = (try adapter(3), try adapter(3, header: header))
    defer {
      unlink(plain)
      unlink(calibrated)
    }
    #expect(try frames([calibrated], [[0.5]]) == frames([plain], [[0.25]]))
    #expect(try frames([calibrated], [[1]]) == frames([plain], [[1]]))
  }

  @Test func tokensThatDoNotFitAreRefused() throws {
    for path in [try adapter(4, width: 16), try adapter(4, biases: 3)] {
      defer { unlink(path) }
      #expect(throws: LoRAError.self) { try frames([path], [[1]]) }
    }
  }

  /// The same with tokens: the attacked adapter's own token passes through the update that its file states.
  @Test func normHoldsForTokensToo() throws {
    let first = try adapter(7)
    let plain = try adapter(8)
    var header = AdapterHeader()
    header.role = "camera"
    header.weightNorms = try LoRAFile(path: plain).measuredNorms()
    let (second, attacked) = (try adapter(8, header: header), try adapter(8, scale: 5, header: header))
    defer { for path in [first, plain, second, attacked] { unlink(path) } }
    for (mode, isSafe) in [(ComposeMode.norm, true), (.sum, false)] {
      let before = try frames([first, second], [[0.5], [0.7]], compose: mode)
      let after = try frames([first, attacked], [[0.5], [0.7]], compose: mode)
      let mean = change(before, after).reduce(0, +) / 4
      #expect(isSafe ? mean < 0.1 : mean > 2, "\(mode): \(mean)")
    }
  }

  /// T3 in a run: an adapter whose B was made five times as large changes nothing under `norm`.
  @Test func composeModesInARun() throws {
    let first = try adapter(5, isPlain: true)
    var header = AdapterHeader()
    header.role = "camera"
    let plain = try adapter(6, isPlain: true)
    header.weightNorms = try LoRAFile(path: plain).measuredNorms()
    let second = try adapter(6, isPlain: true, header: header)
    let attacked = try adapter(6, isPlain: true, scale: 5, header: header)
    defer { for path in [first, plain, second, attacked] { unlink(path) } }
    for (mode, isSafe) in [(ComposeMode.norm, true), (.sum, false)] {
      let before = try frames([first, second], [[1], [1]], compose: mode)
      let after = try frames([first, attacked], [[1], [1]], compose: mode)
      let mean = change(before, after).reduce(0, +) / 4
      #expect(isSafe ? mean < 0.5 : mean > 2, "\(mode): \(mean)")
    }
    #expect(
      try frames([first, second], [[1], [1]], compose: .projected) != frames([first, second], [[1], [1]]))
    #expect(try frames([first], [[1]], compose: .projected) == frames([first], [[1]]))
  }
}
