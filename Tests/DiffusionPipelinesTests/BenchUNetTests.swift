import DiffusionLayers
import DiffusionModels
import DiffusionPipelines
import TensorCore
import TestSupport
import Testing

/// The small UNet that MotionLoRA is measured on: AnimateDiff's layout over patches of pixels, with a table of words.
@Suite struct BenchUNetTests {
  private static let path = Fixture.root + "/tools/bench-unet/model"
  private static let caption = "disc flat right pan_right"

  private func load() throws -> (model: VideoModel, golden: SafetensorsFile) {
    (
      try VideoModel.load(Self.path, options: LoadOptions(precision: .f32)),
      try Fixture.safetensors("bench_unet_golden")
    )
  }

  @Test func oneCallAgreesWithDiffusers() throws {
    let (model, golden) = try load()
    #expect(model.info.clipLength == 8 && model.info.trainedWidth == 24 && model.info.sizeMultiple == 4)
    let found = try model.prediction(
      model.backbone(from: model.backboneSource), golden["noise"], timesteps: [700],
      context: model.embedding(of: Self.caption, cancellation: Cancellation()), .plain)
    let difference = Difference(found, try golden["output"])
    #expect(difference.relative < 2e-5, "\(difference)")
  }

  @Test func aClipAgreesWithDiffusers() throws {
    let (model, golden) = try load()
    var stages = StageSeconds()
    let frames = try TextToVideo.run(
      model, settings: SamplerSettings(prompt: Self.caption, steps: 4, guidanceScale: 3), frames: 8,
      width: 24,
      height: 24, noise: golden["noise"], stages: &stages)
    let expected = try golden["frames"].array().map { max(-1, min(1, $0)) * 127.5 + 127.5 }
    let found = frames.flatMap { $0.pixels.map(Float.init) }
    #expect(found.count == expected.count && Set(found).count > 50)
    let worst = zip(found, expected).map { abs($0 - $1) }.max() ?? .infinity
    #expect(worst < 0.6, "\(worst) steps of 8-bit colour")
  }

  @Test func patchesAreTorchsPixelUnshuffle() {
    var random = TorchRandom(seed: 2)
    let picture = random.randn([1, 6, 4, 3])
    let folded = PixelPatches.folded(picture, side: 2)
    #expect(folded.shape == [1, 3, 2, 12])
    let (from, to) = (picture.array(), folded.array())
    for y in 0..<6 {
      for x in 0..<4 {
        for channel in 0..<3 {
          let place = (y / 2 * 2 + x / 2) * 12 + channel * 4 + y % 2 * 2 + x % 2
          #expect(to[place] == from[(y * 4 + x) * 3 + channel])
        }
      }
    }
    #expect(PixelPatches.unfolded(folded, side: 2).array() == from)
  }
}
