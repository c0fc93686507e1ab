import DiffusionLayers
import DiffusionModels
import TensorCore
import TestSupport
import Testing

/// Stable Diffusion's autoencoder against diffusers, under all its namings.
@Suite struct AutoencoderKLTests {
  let source: SafetensorsSource
  let config: JSONObject
  let golden: SafetensorsFile

  init() throws {
    let directory = try ModelDirectory(Fixture.path("animatediff"))
    source = try SafetensorsSource(directory, component: "vae")
    config = try directory.json("vae/config.json")
    golden = try Fixture.safetensors("animatediff_golden")
  }

  private func model() throws -> AutoencoderKL { try AutoencoderKL(source, config: .object(config)) }

  /// `[N, C, H, W]` as `[N, H, W, C]`.
  private func pictures(_ name: String) throws -> Tensor {
    try golden[name].permuted([0, 2, 3, 1]).contiguous()
  }

  @Test func encodesAndDecodesLikeTheReference() throws {
    let model = try model()
    #expect(model.spatialRatio == 8 && model.latentChannels == 4)
    let posterior = try model.encode(try pictures("vae_encode.in.video"), .plain)
    for (found, name) in [(posterior.mean, "mean"), (posterior.logvar, "logvar")] {
      let difference = Difference(found, try pictures("vae_encode.out.\(name)"))
      #expect(difference.relative < Tolerance.network, "\(name): \(difference)")
    }
    let decoded = try model.decode(try pictures("vae_decode.in.latents"), .plain)
    let difference = Difference(decoded, try pictures("vae_decode.out.frames"))
    #expect(difference.relative < Tolerance.network, "\(difference)")
  }

  @Test func drawsFollowTheMoments() throws {
    let posterior = AutoencoderKL.Posterior(
      mean: Tensor([1, -2], shape: [1, 1, 1, 2]), logvar: Tensor([0, -2], shape: [1, 1, 1, 2]))
    let sample = posterior.sample(noise: Tensor([0.5, 2], shape: [1, 1, 1, 2])).array()
    #expect(abs(sample[0] - 1.5) < 1e-6 && abs(sample[1] - (-2 + 2 * 0.36787945)) < 1e-6)
  }

  @Test func normalisation() throws {
    let model = try model()
    let latents = try pictures("vae_decode.in.latents")
    let normalized = model.normalized(latents)
    #expect(abs(normalized.array()[3] - latents.array()[3] * 0.18215) < 1e-7)
    #expect(Difference(model.denormalized(normalized), latents).relative < Tolerance.operation)
  }

  @Test func framesAreIndependent() throws {
    let model = try model()
    let video = try pictures("vae_encode.in.video")
    let whole = try model.encode(video, .plain).mean
    let second = try model.encode(video.narrow(0, from: 1, length: 1), .plain).mean
    #expect(second.array() == whole.narrow(0, from: 1, length: 1).array())
  }

  // MARK: - Memory

  @Test func memoryIsThatOfOneFrameAndPredicted() throws {
    let model = try model()
    let (height, width) = (128, 160)
    let predicted = model.peakFloats(height: height, width: width)
    var random = TorchRandom(seed: 1)
    let video = random.randn([3, height, width, 3])
    let latents = random.randn([3, height / 8, width / 8, 4])
    // Results stay: three frames of them are no part of the working set.
    for (name, bound, results, body) in [
      (
        "encode", predicted.encode, 3 * 20 * 16 * 16,
        { _ = try model.encode(video.narrow(0, from: 0, length: $0), .plain) }
      ),
      (
        "decode", predicted.decode, 2 * 3 * height * width * 3,
        { _ = try model.decode(latents.narrow(0, from: 0, length: $0), .plain) }
      ),
    ] as [(String, Int, Int, (Int) throws -> Void)] {
      try body(1)
      var peaks: [Int] = []
      for count in [1, 3] {
        TensorMemory.resetPeak()
        let before = TensorMemory.peakBytes
        try body(count)
        peaks.append((TensorMemory.peakBytes - before) / 4)
      }
      #expect(peaks[1] <= peaks[0] + results + peaks[0] / 50, "\(name): memory grows with the clip: \(peaks)")
      #expect(peaks[0] <= bound && peaks[0] * 2 >= bound, "\(name): \(peaks[0]) of \(bound) predicted")
    }
  }

  @Test func tilesAreBlendedLikeTheReference() throws {
    let model = try model()
    let tiling = PictureTiling(tile: 32, stride: 24)
    let decoded = try model.decode(try pictures("tiled.latents"), tiling: tiling, .plain)
    let difference = Difference(decoded, try pictures("tiled.frames"))
    #expect(difference.relative < Tolerance.network, "\(difference)")
    let posterior = try model.encode(try pictures("tiled.frames"), tiling: tiling, .plain)
    let mean = Difference(posterior.mean, try pictures("tiled.mean"))
    #expect(mean.relative < Tolerance.network, "\(mean)")
  }

  @Test func tilesAreAsLargeAsTheBudgetAllows() throws {
    let model = try model()
    let whole = model.peakFloats(height: 512, width: 512).decode
    #expect(model.tiling(height: 512, width: 512, budget: 2 * whole) == nil)
    let tiling = try #require(model.tiling(height: 512, width: 512, budget: whole / 2))
    #expect(tiling.tile >= 128 && tiling.tile < 512 && tiling.tile % 32 == 0)
    #expect(model.peakFloats(height: tiling.tile, width: tiling.tile).decode <= whole / 2)
  }

  // MARK: - Namings

  @Test(arguments: ["", "first_stage_model."]) func originalNamesGiveTheSameModel(_ prefix: String) throws {
    let path = Fixture.path("autoencoder_kl_names.json")
    let bytes = try ByteSource.open(path)
    let names = try JSONValue.parse(try bytes.bytes(0..<bytes.count)).object ?? JSONObject()
    var tensors: [String: Tensor] = ["model.diffusion_model.out.0.weight": Tensor.zeros([1])]
    for name in source.names {
      let original = try #require(names[name]?.string)
      let tensor = try source.load(name, shape: source.shape(of: name) ?? [])
      // The attention's matrices are convolutions there.
      tensors[prefix + original] = tensor.rank == 2 ? tensor.reshaped(tensor.shape + [1, 1]) : tensor
    }
    let original = ResidentSource(name: "sd15.safetensors", tensors: tensors)
    #expect(AutoencoderKLNaming.originalPrefix(original) == prefix)
    let model = try AutoencoderKL(original, config: .object(config))
    let latents = try pictures("vae_decode.in.latents")
    #expect(try model.decode(latents, .plain).array() == self.model().decode(latents, .plain).array())
    let video = try pictures("vae_encode.in.video")
    #expect(try model.encode(video, .plain).mean.array() == self.model().encode(video, .plain).mean.array())
  }

  @Test func attentionUnderItsOlderNames() throws {
    var tensors: [String: Tensor] = [:]
    for name in source.names {
      var old = name
      for (new, older) in [
        (".to_q.", ".query."), (".to_k.", ".key."), (".to_v.", ".value."), (".to_out.0.", ".proj_attn."),
      ] {
        old = old.split(separator: new, omittingEmptySubsequences: false).joined(separator: older)
      }
      tensors[old] = try source.load(name, shape: source.shape(of: name) ?? [])
    }
    let model = try AutoencoderKL(ResidentSource(name: "old", tensors: tensors), config: .object(config))
    let latents = try pictures("vae_decode.in.latents")
    #expect(try model.decode(latents, .plain).array() == self.model().decode(latents, .plain).array())
  }

  @Test func shapeFollowsFromTheTensors() throws {
    var tensors: [String: Tensor] = [:]
    for name in source.names { tensors[name] = try source.load(name, shape: source.shape(of: name) ?? []) }
    // Of 32 groups, as every published one has; these channels are fewer.
    let error = #expect(throws: ConfigError.self) {
      try AutoencoderKL(ResidentSource(name: "x.safetensors", tensors: tensors))
    }
    #expect(error?.key == "norm_num_groups")
    tensors["encoder.conv_out.weight"] = nil
    let missing = #expect(throws: ConfigError.self) {
      try AutoencoderKL(ResidentSource(name: "x.safetensors", tensors: tensors))
    }
    #expect(missing?.key == "encoder.conv_out.weight")
  }

  @Test func missingAndMisshapenTensorsAreNamed() throws {
    var tensors: [String: Tensor] = [:]
    for name in source.names { tensors[name] = try source.load(name, shape: source.shape(of: name) ?? []) }
    let key = "decoder.mid_block.attentions.0.to_v.weight"
    tensors[key] = Tensor.zeros([8, 9])
    #expect(
      throws: WeightsError.shape(file: "x", tensor: key, expected: [8, 8], found: [8, 9])
    ) { try AutoencoderKL(ResidentSource(name: "x", tensors: tensors), config: .object(config)) }
  }

  @Test(arguments: [
    ("_class_name", JSONValue.string("AutoencoderKLWan")), ("block_out_channels", .array([])),
    ("block_out_channels", .array([.integer(0)])), ("latent_channels", .integer(0)),
    ("act_fn", .string("relu")), ("in_channels", .integer(4)), ("scaling_factor", .integer(0)),
    ("scaling_factor", .string("x")), ("norm_num_groups", .integer(3)),
    ("down_block_types", .array([.string("AttnDownEncoderBlock2D")])),
    ("latents_mean", .array([.integer(0)])),
    ("layers_per_block", .integer(1 << 40)),
  ]) func impossibleConfigurationsAreRefused(_ key: String, _ value: JSONValue) throws {
    var changed = config
    changed[key] = value
    let error = #expect(throws: ConfigError.self) {
      try AutoencoderKLConfig(.object(changed), file: "vae/config.json")
    }
    #expect(error?.file == "vae/config.json" && error?.key == key)
  }
}
