import DiffusionLayers
import DiffusionModels
import TensorCore
import TestSupport
import Testing

/// How batches pass the UNet, what they hold in memory, and steps that are left out.
@Suite(.serialized) struct UNetBatchTests {
  private static let model = Result { () throws -> UNetMotionModel in
    let directory = try ModelDirectory(Fixture.path("animatediff_tiny"))
    let image = try SafetensorsSource(directory, component: "unet")
    let motion = try SafetensorsSource(directory, component: "motion_adapter")
    let config = try UNetMotionConfig(
      unet: .object(try directory.json("unet/config.json")), file: "unet/config.json",
      motion: .object(try directory.json("motion_adapter/config.json")),
      motionFile: "motion_adapter/config.json")
    let naming = try #require(MotionModuleNaming.detect(motion.names))
    return try UNetMotionModel(Weights(try JoinedSource([image, try naming.renamed(motion)])), config)
  }

  private static func random(_ shape: [Int], _ seed: UInt64) -> Tensor {
    var random = TorchRandom(seed: seed)
    return random.randn(shape)
  }

  /// Entries of many tokens go one after another: the same numbers as alone, in the memory of one.
  @Test(arguments: [(8, 8), (32, 32)]) func entriesOfABatch(rows: Int, columns: Int) throws {
    let model = try Self.model.get()
    let latents = Self.random([2, model.inChannels, 8, rows, columns], 1)
    let context = Self.random([2, 7, model.textDim], 2)
    let prompt = try model.prepare(context: context, .plain)
    let both = try model(latents, timesteps: [500, 20], prompt: prompt, .plain)
    for (entry, time) in [Float(500), 20].enumerated() {
      let part = { (tensor: Tensor) in tensor.narrow(0, from: entry, length: 1).contiguous() }
      let alone = try model(
        part(latents), timesteps: [time], prompt: try model.prepare(context: part(context), .plain), .plain)
      let difference = Difference(part(both), alone)
      #expect(difference.relative < 1e-5, "entry \(entry): \(difference)")
    }
    let rise = { (batch: Int) throws -> Int in
      let (x, text) = (
        latents.narrow(0, from: 0, length: batch).contiguous(),
        try model.prepare(context: context.narrow(0, from: 0, length: batch).contiguous(), .plain)
      )
      TensorMemory.resetPeak()
      let before = TensorMemory.peakBytes
      _ = try model(x, timesteps: [Float](repeating: 500, count: batch), prompt: text, .plain)
      return TensorMemory.peakBytes - before
    }
    let (one, two) = (try rise(1), try rise(2))
    if rows == 32 { #expect(2 * two < 3 * one, "\(one) bytes for one, \(two) for two") }
  }

  /// The same call twice: the second one remembers all layers but the first.
  @Test(arguments: [8, 24]) func layersAreLeftOut(side: Int) throws {
    let model = try Self.model.get()
    let latents = Self.random([2, model.inChannels, 8, side, side], 3)
    let prompt = try model.prepare(context: Self.random([2, 7, model.textDim], 4), .plain)
    var cache = FirstBlockCache(threshold: 0.2)
    func step(_ latents: Tensor, _ cache: inout FirstBlockCache) throws -> Tensor {
      try model(latents, timesteps: [500, 500], prompt: prompt, .plain, cache: &cache)
    }
    let first = try step(latents, &cache)
    #expect(cache.reused == 0)
    #expect(Difference(try step(latents, &cache), first).relative < 1e-5)
    #expect(cache.reused == 1)
    // Close by, the result is close to what all layers give, and not the same.
    let near = latents + Self.random(latents.shape, 5) * 0.01
    var off = FirstBlockCache()
    let difference = Difference(try step(near, &cache), try step(near, &off))
    #expect(cache.reused == 2 && off.reused == 0)
    #expect(difference.relative > 1e-6 && difference.relative < 0.2, "\(difference)")
    _ = try step(Self.random(latents.shape, 6), &cache)
    #expect(cache.reused == 2)
  }

  /// A feed-forward with adapters works on some frames at a time, each at its own strength.
  @Test func adaptedFeedForward() throws {
    let (dim, frames, perFrame) = (8, 5, 700)
    let base = ResidentSource(
      name: "ff",
      tensors: [
        "net.0.proj.weight": Self.random([8 * dim, dim], 1), "net.0.proj.bias": Self.random([8 * dim], 2),
        "net.2.weight": Self.random([dim, 4 * dim], 3), "net.2.bias": Self.random([dim], 4),
      ])
    let pairs = [
      AdapterFactors(
        module: "net.0.proj", down: Self.random([2, dim], 5), up: Self.random([8 * dim, 2], 6)),
      AdapterFactors(module: "net.2", down: Self.random([2, 4 * dim], 7), up: Self.random([dim, 2], 8)),
    ]
    let source = TrainableSource(base, factors: pairs, scale: 0.5, isRecorded: false)
    let layer = try GEGLUFeedForward(Weights(source), dim)
    let x = Self.random([2, frames * perFrame, dim], 9)
    let residual = Self.random(x.shape, 10)
    let strengths: [Float] = [0, 1, -0.5, 2, 0.25]
    let run = RunContext(strengths: [strengths], axis: .frames(perFrame: perFrame))
    let moving = layer(x, onto: residual, run)
    for clip in 0..<2 {
      for (frame, strength) in strengths.enumerated() {
        let part = { (tensor: Tensor) in
          tensor.narrow(0, from: clip, length: 1)
            .narrow(1, from: frame * perFrame, length: perFrame).contiguous()
        }
        let alone = layer(
          part(x), onto: part(residual),
          RunContext(strengths: [[strength]], axis: .frames(perFrame: perFrame)))
        let difference = Difference(part(moving), alone)
        #expect(difference.relative < 1e-5, "clip \(clip), frame \(frame): \(difference)")
      }
    }
  }
}
