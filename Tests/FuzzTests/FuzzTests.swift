import FuzzTargets
import Testing

/// A short, always equal run of every fuzz target: the committed corpus and some thousand mutations of it.
@Suite struct FuzzTests {
  private static let counts = [
    "safetensors": 4000, "index": 3000, "config": 250, "scheduler": 1500, "lora": 3000, "pickle": 6000,
    "tokenizer": 1000, "clip-tokenizer": 1000,
  ]

  @Test(arguments: FuzzTarget.all.map(\.name)) func survives(name: String) throws {
    let target = try #require(FuzzTarget.all.first { $0.name == name })
    let seeds = FuzzTarget.seeds(of: target)
    try #require(seeds.count > 3, "the corpus is missing")
    var accepted = 0
    for seed in seeds { accepted += try run(target, seed) ? 1 : 0 }
    #expect(accepted > 0, "no seed is a good file")
    var mutator = Mutator(seed: 20_261_121)
    for _ in 0..<(Self.counts[name] ?? 1000) {
      let (seed, other) = (seeds[mutator.pick(seeds.count)], seeds[mutator.pick(seeds.count)])
      _ = try run(target, mutator.mutated(seed, other: other, target: target))
    }
  }

  private func run(_ target: FuzzTarget, _ bytes: [UInt8]) throws -> Bool {
    let start = ContinuousClock.now
    let isAccepted = try target.refusal(of: bytes) == nil
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    #expect(seconds < Double(FuzzRule.seconds), "\(seconds) s for \(bytes.count) bytes")
    return isAccepted
  }
}
