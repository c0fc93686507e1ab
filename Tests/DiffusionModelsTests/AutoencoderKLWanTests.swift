import DiffusionLayers
import DiffusionModels
import TensorCore
import TestSupport
import Testing

/// Wan's autoencoder against diffusers, whole and streamed, under both namings.
@Suite struct AutoencoderKLWanTests {
  let source: SafetensorsSource
  let config: JSONObject
  let golden: SafetensorsFile

  init() throws {
    let directory = try ModelDirectory(Fixture.path("autoencoder_kl_wan"))
    source = try SafetensorsSource(directory, component: "vae")
    config = try directory.json("vae/config.json")
    golden = try Fixture.safetensors("autoencoder_kl_wan_golden")
  }

  private func model() throws -> AutoencoderKLWan {
    try AutoencoderKLWan(Weights(source), config: .object(config), file: "vae/config.json")
  }

  /// `[1, C, F, H, W]` as frames `[F, H, W, C]`.
  private func frames(_ name: String) throws -> Tensor {
    try golden[name].select(0, 0).permuted([1, 2, 3, 0]).contiguous()
  }

  @Test func encodesAndDecodesLikeTheReference() throws {
    let model = try model()
    #expect(model.spatialRatio == 8 && model.temporalRatio == 4 && model.latentChannels == 16)
    let posterior = try model.encode(try frames("encode.in.video"), .plain)
    for (found, name) in [(posterior.mean, "mean"), (posterior.logvar, "logvar")] {
      let difference = Difference(found, try frames("encode.out.\(name)"))
      #expect(difference.relative < Tolerance.network, "\(name): \(difference)")
    }
    let decoded = try model.decode(try frames("decode.in.latents"), .plain)
    let difference = Difference(decoded, try frames("decode.out.frames"))
    #expect(difference.relative < Tolerance.network, "\(difference)")
  }

  @Test(arguments: [1, 2, 3, 4, 5, 13]) func streamedFramesGiveTheWholeClip(_ chunk: Int) throws {
    let model = try model()
    let video = try frames("encode.in.video")
    let whole = try model.encode(video, .plain)
    var encoder = AutoencoderKLWan.Encoder(model)
    var means: [[Float]] = []
    for first in stride(from: 0, to: 13, by: chunk) {
      let length = min(chunk, 13 - first)
      let made = try encoder.push(video.narrow(0, from: first, length: length), .plain)
      means += made.map { $0.mean.array() }
      // A latent frame is there as soon as its last frame is: frames 0, 4, 8, 12.
      #expect(means.count == (first + length + 3) / 4)
    }
    #expect(means.flatMap { $0 } == whole.mean.array())
  }

  @Test func streamedLatentsGiveTheWholeClip() throws {
    let model = try model()
    let latents = try frames("decode.in.latents")
    let whole = try model.decode(latents, .plain)
    #expect(whole.shape == [13, 16, 24, 3])
    var decoder = AutoencoderKLWan.Decoder(model)
    var pixels: [Float] = []
    for index in 0..<4 {
      let made = try decoder.push(latents.select(0, index), .plain)
      #expect(made.shape == [index == 0 ? 1 : 4, 16, 24, 3])
      pixels += made.array()
    }
    #expect(pixels == whole.array())
    // A stream that has begun is a value: two continuations of one past do not disturb each other.
    var (one, other) = (decoder, decoder)
    _ = try one.push(Tensor.zeros([2, 3, 16]), .plain)
    let again = try other.push(latents.select(0, 0), .plain)
    #expect(again.array() == (try decoder.push(latents.select(0, 0), .plain)).array())
  }

  @Test func framesThatCompleteNoLatentFrameAreNotEncoded() throws {
    let model = try model()
    let video = try frames("encode.in.video")
    let expected = try model.encode(video.narrow(0, from: 0, length: 5), .plain).mean
    for length in 5...8 {
      let found = try model.encode(video.narrow(0, from: 0, length: length), .plain).mean
      #expect(found.array() == expected.array())
    }
    #expect(try model.encode(video.narrow(0, from: 0, length: 1), .plain).mean.shape == [1, 2, 3, 16])
  }

  @Test func normalisation() throws {
    let model = try model()
    let latents = try frames("decode.in.latents")
    let normalized = model.normalized(latents)
    let (values, changed) = (latents.array(), normalized.array())
    for index in [0, 17, 35] {
      let channel = index % 16
      let expected = (values[index] - model.config.latentsMean[channel]) / model.config.latentsStd[channel]
      #expect(abs(changed[index] - expected) < 1e-6)
    }
    #expect(model.config.latentsMean[0] == -0.7571 && model.config.latentsStd[15] == 1.916)
    #expect(Difference(model.denormalized(normalized), latents).relative < Tolerance.operation)
  }

  // MARK: - Memory

  @Test(arguments: [(64, 96), (128, 128)]) func memoryIsThatOfTheStreamAndPredicted(_ size: (Int, Int)) throws
  {
    let model = try model()
    let (height, width) = size
    let predicted = model.peakFloats(height: height, width: width)
    var random = TorchRandom(seed: 1)
    let picture = random.randn([1, height, width, 3])
    let latent = random.randn([height / 8, width / 8, 16])
    for (name, bound, body) in [
      ("encode", predicted.encode, { count in try Self.encode(model, picture, 4 * count - 3) }),
      ("decode", predicted.decode, { count in try Self.decode(model, latent, count) }),
    ] as [(String, Int, (Int) throws -> Void)] {
      try body(1)
      var peaks: [Int] = []
      for count in [3, 7] {
        TensorMemory.resetPeak()
        let before = TensorMemory.peakBytes
        try body(count)
        peaks.append((TensorMemory.peakBytes - before) / 4)
      }
      // Scratch memory of threads that run at the same time varies a little.
      #expect(peaks[1] <= peaks[0] + peaks[0] / 100, "\(name): memory grows with the clip: \(peaks)")
      #expect(peaks[0] <= bound && peaks[0] * 3 >= bound * 2, "\(name): \(peaks[0]) of \(bound) predicted")
    }
  }

  private static func encode(_ model: AutoencoderKLWan, _ picture: Tensor, _ frames: Int) throws {
    var encoder = AutoencoderKLWan.Encoder(model)
    for _ in 0..<frames { _ = try encoder.push(picture, .plain) }
  }

  private static func decode(_ model: AutoencoderKLWan, _ latent: Tensor, _ frames: Int) throws {
    var decoder = AutoencoderKLWan.Decoder(model)
    for _ in 0..<frames { _ = try decoder.push(latent, .plain) }
  }

  @Test func tilesAreBlendedLikeTheReference() throws {
    let model = try model()
    let tiling = AutoencoderKLWan.Tiling(tile: 24, stride: 16)
    let decoded = try model.decode(try frames("tiled.in.latents"), tiling: tiling, .plain)
    let pixels = Difference(decoded, try frames("tiled.out.frames"))
    #expect(pixels.relative < Tolerance.network, "\(pixels)")
    let posterior = try model.encode(try frames("tiled.out.frames"), tiling: tiling, .plain)
    let mean = Difference(posterior.mean, try frames("tiled.out.mean"))
    #expect(mean.relative < Tolerance.network, "\(mean)")
    #expect(posterior.logvar.shape == posterior.mean.shape)
  }

  @Test func theBudgetChoosesTheTiles() throws {
    let model = try model()
    let whole = model.peakFloats(height: 480, width: 832).decode
    #expect(model.tiling(height: 480, width: 832, budget: whole) == nil)
    let half = try #require(model.tiling(height: 480, width: 832, budget: whole / 2))
    let tile = model.peakFloats(height: min(480, half.tile), width: half.tile)
    #expect(
      max(tile.encode, tile.decode) <= whole / 2 && half.tile % 32 == 0 && half.stride == half.tile * 3 / 4)
    #expect(try #require(model.tiling(height: 480, width: 832, budget: 1)).tile == 128)
  }

  // MARK: - The original naming

  private func originalNames() throws -> [(diffusers: String, original: String)] {
    let file = try ByteSource.open(Fixture.path("autoencoder_kl_wan_names.json"))
    let json = try JSONValue.parse(try file.bytes(0..<file.count)).object ?? JSONObject()
    return json.keys.map { ($0, json[$0]?.string ?? "") }
  }

  /// The fixture's tensors under the names of Wan's own repository.
  private func originalTensors() throws -> [String: Tensor] {
    var tensors: [String: Tensor] = [:]
    for (name, original) in try originalNames() {
      tensors[original] = try source.load(name, shape: source.shape(of: name) ?? [])
    }
    return tensors
  }

  @Test func theOriginalNamingGivesTheSameModel() throws {
    let tensors = try originalTensors()
    #expect(tensors.count == source.names.count)
    let original = ResidentSource(name: "wan_vae.safetensors", tensors: tensors)
    #expect(AutoencoderKLWan.isOriginal(original.names) && !AutoencoderKLWan.isOriginal(source.names))
    let (model, same) = (try model(), try AutoencoderKLWan(original: original))
    #expect(model.config == same.config)
    let (video, latents) = (try frames("encode.in.video"), try frames("decode.in.latents"))
    #expect(try model.encode(video, .plain).mean.array() == same.encode(video, .plain).mean.array())
    #expect(try model.decode(latents, .plain).array() == same.decode(latents, .plain).array())
  }

  @Test func originalFilesThatDoNotFitAreRefused() throws {
    let tensors = try originalTensors()
    func error(_ change: (inout [String: Tensor]) -> Void) -> String {
      var changed = tensors
      change(&changed)
      do {
        _ = try AutoencoderKLWan(original: ResidentSource(name: "wan_vae.safetensors", tensors: changed))
        return "no error"
      } catch {
        return "\(error)"
      }
    }
    // The message names the tensor as the file does.
    let missing = error { $0["decoder.upsamples.7.resample.1.weight"] = nil }
    #expect(missing.contains("'decoder.upsamples.7.resample.1.weight'") && missing.contains("wan_vae"))
    let shape = error { $0["decoder.middle.1.proj.bias"] = Tensor.zeros([3]) }
    #expect(shape.contains("decoder.middle.1.proj.bias") && shape.contains("[3]"))
    #expect(error { $0["encoder.conv1.weight"] = nil }.contains("encoder.conv1.weight"))
    #expect(error { $0["encoder.conv1.weight"] = Tensor.zeros([4]) }.contains("encoder.conv1.weight"))
    #expect(error { $0["encoder.downsamples.1.residual.2.weight"] = nil }.contains("encoder.downsamples.1'"))
    #expect(error { $0["encoder.downsamples.99.to_qkv.weight"] = Tensor.zeros([1]) }.contains("downsamples"))
    #expect(error { $0["encoder.downsamples."] = Tensor.zeros([1]) }.contains("downsamples"))
    #expect(error { $0 = [:] }.contains("encoder.conv1.weight"))
  }

  // MARK: - Errors

  @Test func configurationErrorsNameTheKey() throws {
    for (key, value) in [
      ("is_residual", JSONValue.bool(true)), ("patch_size", .integer(2)),
      ("attn_scales", .array([.number(0.5)])), ("in_channels", .integer(12)), ("out_channels", .integer(12)),
      ("_class_name", .string("AutoencoderKLHunyuanVideo")), ("z_dim", .integer(0)),
      ("base_dim", .string("96")), ("base_dim", .integer(Int.max)), ("dim_mult", .array([])),
      ("dim_mult", .array([.integer(1), .integer(-2)])), ("dim_mult", .integer(4)),
      ("temperal_downsample", .array([.bool(true)])), ("num_res_blocks", .integer(0)),
      ("latents_mean", .array([.number(1)])),
      ("latents_std", .array([JSONValue](repeating: .integer(0), count: 16))),
      ("scale_factor_spatial", .integer(16)), ("scale_factor_temporal", .integer(2)),
    ] {
      var changed = config
      changed[key] = value
      do {
        _ = try AutoencoderKLWanConfig(.object(changed), file: "vae/config.json")
        Issue.record("\(key) \(value) was accepted")
      } catch {
        #expect(error.key == key && error.file == "vae/config.json", "\(error)")
      }
    }
    #expect(throws: ConfigError.self) { try AutoencoderKLWanConfig(.null, file: "vae/config.json") }
  }

  @Test func defaultsAreThoseOfWan21() throws {
    let config = try AutoencoderKLWanConfig(.object(JSONObject()), file: "vae/config.json")
    #expect(config.baseDim == 96 && config.decoderBaseDim == 96 && config.zDim == 16)
    #expect(config.dimMult == [1, 2, 4, 4] && config.numResBlocks == 2)
    #expect(config.temperalDownsample == [false, true, true])
    #expect(config.latentsMean.count == 16 && config.latentsStd.count == 16)
    // Other channels need other statistics.
    var other = JSONObject()
    other["z_dim"] = .integer(48)
    #expect(throws: ConfigError.self) { try AutoencoderKLWanConfig(.object(other), file: "vae/config.json") }
  }

  @Test func missingTensorsAreNamed() throws {
    var changed = config
    changed["num_res_blocks"] = .integer(3)
    do {
      _ = try AutoencoderKLWan(Weights(source), config: .object(changed), file: "vae/config.json")
      Issue.record("a deeper model was built from the file")
    } catch {
      #expect("\(error)".contains("encoder.down_blocks.2."), "\(error)")
    }
  }

  @Test func cancellationStopsBothHalves() throws {
    let model = try model()
    let cancellation = Cancellation()
    cancellation.cancel()
    let run = RunContext(cancellation: cancellation)
    #expect(throws: Cancelled.self) { try model.encode(Tensor.zeros([1, 16, 16, 3]), run) }
    #expect(throws: Cancelled.self) { try model.decode(Tensor.zeros([1, 2, 2, 16]), run) }
  }
}
