import DiffusionLayers
import DiffusionModels
import DiffusionPipelines
import TensorCore
import TestSupport
import Testing

/// The first-block cache: which steps it leaves out, and what it gives then.
@Suite(.serialized) struct FirstBlockCacheTests {
  private static let nano = Result { try VideoModel.load("builtin:nano") }
  private static let adapter = "builtin:" + (BuiltinFiles.adapters.first ?? "missing")

  @Test func relativeChangeAgreesWithTheNaiveOne() {
    var random = TorchRandom(seed: 2)
    // More than one piece per entry, and an odd rest.
    let (a, b) = (random.randn([3, 157, 421]), random.randn([3, 157, 421]))
    let change = a.relativeChange(from: b)
    for (entry, found) in change.enumerated() {
      let x = a.narrow(0, from: entry, length: 1).array()
      let y = b.narrow(0, from: entry, length: 1).array()
      let naive =
        zip(x, y).reduce(0.0) { $0 + Double(abs($1.0 - $1.1)) } / y.reduce(0.0) { $0 + Double(abs($1)) }
      #expect(abs(Double(found) - naive) < 1e-6 * naive, "entry \(entry)")
    }
    #expect(a.relativeChange(from: a) == [0, 0, 0])
    #expect(Tensor.zeros([1, 4]).relativeChange(from: Tensor.zeros([1, 4])) == [0])
    #expect(a.narrow(0, from: 0, length: 1).relativeChange(from: Tensor.zeros([1, 157, 421])) == [.infinity])
  }

  /// Blocks that add known numbers, so that what must come out can be written down.
  @Test func blocksAreLeftOutByTheFirstOnesChange() throws {
    var cache = FirstBlockCache(threshold: 0.1)
    var calls: [Int] = []
    func step(_ x: [Float], adding first: [Float]) throws -> [Float] {
      calls = []
      let result = try cache.run(Tensor(x, shape: [2, 1, 1]), blocks: 3) { index, x in
        calls.append(index)
        return index == 0 ? x + Tensor(first, shape: [2, 1, 1]) : x * 2
      }
      return result.array()
    }
    #expect(try step([1, 10], adding: [1, 1]) == [8, 44])
    #expect(calls == [0, 1, 2] && cache.reused == 0)
    // Both entries within a tenth: the others add what they added, 6 and 33.
    #expect(try step([2, 20], adding: [1.0625, 0.9375]) == [3.0625 + 6, 20.9375 + 33])
    #expect(calls == [0] && cache.reused == 1)
    // Compared with the last step that was computed, not with the last one.
    #expect(try step([2, 20], adding: [1.125, 1]) == [12.5, 84])
    #expect(calls == [0, 1, 2] && cache.reused == 1)
    // One entry alone above the threshold.
    #expect(try step([2, 20], adding: [1.125, 1.25]) == [12.5, 85])
    #expect(calls == [0, 1, 2])
    // Another number of entries, as when guidance ends.
    let single = try cache.run(Tensor([1], shape: [1, 1, 1]), blocks: 2) { _, x in x + 1 }
    #expect(single.array() == [3] && cache.reused == 1)

    var off = FirstBlockCache()
    for _ in 0..<2 {
      #expect(try off.run(Tensor([1], shape: [1, 1, 1]), blocks: 2) { _, x in x + 1 }.array() == [3])
    }
    #expect(off.reused == 0)
  }

  private func transform(_ settings: SamplerSettings, clips: Int = 1, model: VideoModel? = nil) throws
    -> (frames: [Frame], stages: StageSeconds)
  {
    var stream = try VideoStream(model: try model ?? Self.nano.get(), clipLength: 4, overlap: 0)
    var results: [Frame] = []
    for frame in VideoStreamTests.frames(4 * clips, width: 48, height: 32) {
      results += try stream.push(frame, strength: 1, adapterStrengths: [], settings: settings)
    }
    return (results, stream.stages)
  }

  @Test func stepsAreLeftOutInEveryClipAnew() throws {
    var settings = SamplerSettings(steps: 6, guidanceScale: 1, seed: 4)
    let exact = try transform(settings)
    #expect(exact.stages.steps == 6 && exact.stages.cachedSteps == 0)
    settings.cacheThreshold = 1e-7
    #expect(try transform(settings).frames == exact.frames)
    settings.cacheThreshold = 1
    let cached = try transform(settings)
    #expect(cached.frames != exact.frames)
    #expect(cached.stages.steps == 6 && cached.stages.cachedSteps > 0)
    // The first step of a clip has nothing to reuse.
    #expect(cached.stages.cachedSteps < 6)
    #expect(try transform(settings).frames == cached.frames)
    let two = try transform(settings, clips: 2)
    #expect((cached.stages.cachedSteps + 1...10).contains(two.stages.cachedSteps))
    #expect(Array(two.frames.prefix(4)) == cached.frames)
    settings.guidanceScale = 3
    settings.prompt = "oil"
    let guided = try transform(settings)
    #expect(guided.stages.cachedSteps > 0 && guided.frames != cached.frames)
    for threshold in [-0.1, 1.5, Float.nan] {
      settings.cacheThreshold = threshold
      #expect(throws: PipelineError.self) { try transform(settings) }
    }
  }

  /// Without guidance there is one pass a step, with it two.
  @Test func guidanceOfOneIsOnePass() throws {
    let model = try VideoModel.load(Fixture.path("tag_model"))
    var stages = StageSeconds()
    func operations(_ scale: Float) throws -> Double {
      FlopCounter.start()
      _ = try TextToVideo.run(
        model, settings: SamplerSettings(steps: 2, guidanceScale: scale), frames: 4, width: 24, height: 16,
        stages: &stages)
      return FlopCounter.stop()
    }
    let (single, double) = (try operations(1), try operations(3))
    #expect(single > 0 && double == 2 * single, "\(single), \(double)")
  }

  /// What distilled adapters need: the LCM sampler, few steps and no guidance, with an adapter like any other.
  @Test func anAdapterRunsUnderTheLCMSampler() throws {
    let model = try Self.nano.get()
    let adapted = try model.adapted(with: [AdapterRequest(path: Self.adapter)])
    let settings = SamplerSettings(steps: 4, guidanceScale: 1, scheduler: .lcm, seed: 2)
    let with = try transform(settings, model: adapted).frames
    #expect(with.count == 4 && Set(with.map(\.pixels)).count == 4)
    #expect(try transform(settings, model: adapted).frames == with)
    #expect(try transform(settings, model: model).frames != with)
    let plain = SamplerSettings(steps: 4, guidanceScale: 1, seed: 2)
    #expect(try transform(plain, model: adapted).frames != with)
  }

  @Test func textsAreRememberedUpToFour() {
    let memory = PromptMemory()
    var asked: [[String]] = []
    func embed(_ texts: String...) -> [Float] {
      memory.embeddings(of: texts) { missing in
        asked.append(missing)
        return missing.map { Tensor([Float($0.utf8.count)], shape: [1, 1, 1]) }
      }.map { $0.array()[0] }
    }
    #expect(embed("a", "bb") == [1, 2] && asked == [["a", "bb"]])
    #expect(embed("bb", "a") == [2, 1] && embed("a", "a") == [1, 1] && asked.count == 1)
    #expect(embed("a", "ccc") == [1, 3] && asked.last == ["ccc"])
    #expect(embed("dddd", "dddd") == [4, 4] && asked.last == ["dddd"])
    #expect(embed("eeeee") == [5])  // the oldest, bb, is let go
    #expect(embed("a", "ccc", "dddd", "eeeee") == [1, 3, 4, 5] && asked.count == 4)
    #expect(embed("bb") == [2] && asked.last == ["bb"])
  }
}
