import DiffusionLayers
import DiffusionModels
import TensorCore
import TestSupport
import Testing

/// A random UNet with motion modules against diffusers.
@Suite struct UNetMotionTests {
  private let golden: SafetensorsFile
  private let cases: JSONObject
  private let image: SafetensorsSource
  private let motion: SafetensorsSource
  private let config: UNetMotionConfig
  private let unetJSON: JSONObject
  private let motionJSON: JSONObject

  init() throws {
    golden = try Fixture.safetensors("animatediff_tiny_golden")
    let source = try ByteSource.open(Fixture.path("animatediff_tiny_golden.json"))
    cases = try #require(try JSONValue.parse(try source.bytes(0..<source.count)).object)
    let directory = try ModelDirectory(Fixture.path("animatediff_tiny"))
    image = try SafetensorsSource(directory, component: "unet")
    motion = try SafetensorsSource(directory, component: "motion_adapter")
    unetJSON = try directory.json("unet/config.json")
    motionJSON = try directory.json("motion_adapter/config.json")
    config = try UNetMotionConfig(
      unet: .object(unetJSON), file: "unet/config.json", motion: .object(motionJSON),
      motionFile: "motion_adapter/config.json")
  }

  private func joined() throws -> JoinedSource {
    let naming = try #require(MotionModuleNaming.detect(motion.names))
    return try JoinedSource([image, try naming.renamed(motion)])
  }

  private func predict(
    _ name: String, _ model: UNetMotionModel, _ run: RunContext = .plain
  ) throws -> Tensor {
    let latents = try golden["\(name).in.latents"]
    let time = Float(try golden.integers("\(name).in.timestep")[0])
    return try model.predict(
      latents, timesteps: [Float](repeating: time, count: latents.shape[0]),
      context: try golden["\(name).in.embeds"], run)
  }

  /// Within 100 floors of the reference's own response to rounding.
  private func expect(_ found: Tensor, _ name: String) throws {
    let floor = try cases[name]?.object?.double("floor") ?? cases.object("forward").double("floor")
    let difference = Difference(found, try golden["\(name).out.sample"])
    #expect(difference.relative <= 100 * floor, "\(name): \(difference), floor \(floor)")
  }

  @Test(arguments: ["forward", "forward2"]) func goldens(name: String) throws {
    try expect(try predict(name, UNetMotionModel(Weights(try joined()), config)), name)
  }

  @Test(arguments: ["kohya_conv", "motion_original"]) func adapters(file: String) throws {
    let base = try ResidentSource(loading: try joined())
    let adapter = try LoRAFile(
      path: Fixture.path("animatediff_tiny_loras/animatediff_tiny.\(file).safetensors"))
    #expect(adapter.family == (file == "kohya_conv" ? .stableDiffusion : .animateDiff))
    let match = try adapter.match(against: base, strict: true)
    let source = AdaptedSource(base, adapters: [match])
    let model = try UNetMotionModel(Weights(source), config)
    try source.checkApplied()
    for (index, strength) in [Float(1), -0.75].enumerated() {
      let run = RunContext(strengths: [[strength]])
      try expect(try predict("forward", model, run), "lora.\(file).\(index)")
      // Strengths frame by frame, all the same, take another way to the same result.
      let perFrame = RunContext(strengths: [[strength, strength, strength, strength * 1.0000001]])
      try expect(try predict("forward", model, perFrame), "lora.\(file).\(index)")
    }
    let off = try predict("forward", model, RunContext(strengths: [[0]]))
    let plain = try predict("forward", UNetMotionModel(Weights(base), config))
    #expect(off.array() == plain.array())
  }

  /// A strength that moves acts in each frame as that strength alone would, where frames do not look at each other.
  @Test func animatedConvolutionStrength() throws {
    let base = ResidentSource(
      name: "m", tensors: ["c.weight": Self.random([3, 2, 3, 3], 4), "c.bias": Self.random([3], 5)])
    let pair = AdapterFactors(module: "c", down: Self.random([2, 18], 1), up: Self.random([3, 2], 2))
    let source = TrainableSource(base, factors: [pair], scale: 0.5, isRecorded: false)
    let layer = try Conv2D(Weights(source)["c"], 2, 3)
    let x = Self.random([4, 5, 6, 2], 6)
    let strengths: [Float] = [0, 0.5, -1, 2]
    let moving = layer(x, RunContext(strengths: [strengths], axis: .frames(perFrame: 30)))
    for (frame, strength) in strengths.enumerated() {
      let alone = layer(x.narrow(0, from: frame, length: 1), RunContext(strengths: [[strength]]))
      let difference = Difference(moving.narrow(0, from: frame, length: 1), alone)
      #expect(difference.relative <= 1e-6, "frame \(frame): \(difference)")
    }
  }

  private static func random(_ shape: [Int], _ seed: UInt64) -> Tensor {
    var random = TorchRandom(seed: seed)
    return random.randn(shape)
  }

  @Test func preparedPromptFollowsStrengths() throws {
    let base = try ResidentSource(loading: try joined())
    let adapter = try LoRAFile(
      path: Fixture.path("animatediff_tiny_loras/animatediff_tiny.kohya_conv.safetensors"))
    let source = AdaptedSource(base, adapters: [try adapter.match(against: base, strict: true)])
    let model = try UNetMotionModel(Weights(source), config)
    let context = try golden["forward.in.embeds"]
    let (one, other) = (RunContext(strengths: [[1]]), RunContext(strengths: [[0.3]]))
    let moved = try model.updated(try model.prepare(context: context, one), other)
    let latents = try golden["forward.in.latents"]
    let expected = try model(
      latents, timesteps: [681], prompt: try model.prepare(context: context, other), other)
    #expect(try model(latents, timesteps: [681], prompt: moved, other).array() == expected.array())
  }

  /// The same weights under the names of the official repositories, and the norms of their code.
  @Test func originalNames() throws {
    var tensors: [String: Tensor] = [:]
    for name in motion.names {
      var original = name.replacing(".transformer_blocks.", with: ".temporal_transformer.transformer_blocks.")
      for (new, old) in [
        (".attn1.", ".attention_blocks.0."), (".attn2.", ".attention_blocks.1."), (".norm1.", ".norms.0."),
        (".norm2.", ".norms.1."), (".norm3.", ".ff_norm."),
      ] { original = original.replacing(new, with: old) }
      original = original.replacing(#/(motion_modules\.\d+)\.(norm|proj_in|proj_out)\./#) {
        "\($0.output.1).temporal_transformer.\($0.output.2)."
      }
      original = original.replacing(".pos_embed.pe", with: ".attention_blocks.0.pos_encoder.pe")
      tensors["module." + original] = try motion.load(name, shape: try #require(motion.shape(of: name)))
    }
    let official = ResidentSource(name: "mm.ckpt", tensors: tensors)
    let naming = try #require(MotionModuleNaming.detect(official.names))
    #expect(naming.isOriginal && naming.prefix == "module.")
    let inferred = try UNetMotionConfig(inferredFrom: image, heads: 2, groups: 4)
      .with(motion: official, naming, heads: 2)
    var expected = config
    expected.motion.norm = .frame
    expected.sampleSize = inferred.sampleSize
    #expect(inferred == expected)
    let source = try JoinedSource([image, try naming.renamed(official)])
    try inferred.check(against: source, file: "mm.ckpt")
    try expect(try predict("forward", UNetMotionModel(Weights(source), inferred)), "official")
    var first = inferred
    first.resnetNorm = .clip
    try expect(try predict("forward", UNetMotionModel(Weights(source), first)), "official_v1")
  }

  @Test func configurationErrorsNameTheKey() throws {
    func read(_ unet: JSONObject, _ motion: JSONObject) throws -> UNetMotionConfig {
      try UNetMotionConfig(
        unet: .object(unet), file: "unet/config.json", motion: .object(motion),
        motionFile: "motion_adapter/config.json")
    }
    #expect(config.motion.hasMidBlock && config.motion.maxSeqLength == 8 && config.motion.norm == .clip)
    for (key, value) in [
      ("_class_name", .string("UNet2DModel")), ("block_out_channels", .array([.integer(8)])),
      ("norm_num_groups", .integer(5)), ("attention_head_dim", .integer(3)), ("in_channels", .integer(0)),
      ("layers_per_block", .integer(2)), ("class_embed_type", .string("timestep")),
      ("new_trick", .bool(true)),
      ("resnet_time_scale_shift", .string("scale_shift")), ("norm_eps", .integer(0)),
      ("down_block_types", .array([.string("CrossAttnDownBlock2D"), .string("KDownBlock2D")])),
      ("up_block_types", .array([.string("UpBlock2D")])), ("cross_attention_dim", .null),
    ] as [(String, JSONValue)] {
      var changed = unetJSON
      changed[key] = value
      let error = #expect(throws: ConfigError.self, "\(key)") { try read(changed, motionJSON) }
      let blamed = key == "layers_per_block" ? "motion_layers_per_block" : key
      #expect(error?.key == blamed, "\(key): \(String(describing: error))")
    }
    for (key, value) in [
      ("block_out_channels", .array([.integer(8), .integer(16)])), ("motion_norm_num_groups", .integer(2)),
      ("motion_num_attention_heads", .integer(3)), ("conv_in_channels", .integer(9)),
      ("motion_max_seq_length", .integer(0)), ("motion_layers_per_block", .integer(3)),
      ("motion_mid_block_layers_per_block", .integer(2)), ("motion_new_trick", .integer(2)),
    ] as [(String, JSONValue)] {
      var changed = motionJSON
      changed[key] = value
      let error = #expect(throws: ConfigError.self, "\(key)") { try read(unetJSON, changed) }
      #expect(error?.key == key, "\(key): \(String(describing: error))")
    }
    var withoutMiddle = config
    withoutMiddle.motion.hasMidBlock = false
    let source = try joined()
    let error = #expect(throws: ConfigError.self) { try withoutMiddle.check(against: source, file: "c") }
    #expect(error?.key == "use_motion_mid_block")
  }

  /// An adapter for v2's middle block on a model without one: left out with a notice; alone, refused.
  @Test func middleBlockOfAnotherVersion() throws {
    var shapes: [String: [Int]] = [:]
    for name in try joined().names
    where name.hasSuffix(".weight") && !name.hasPrefix("mid_block.motion_modules") {
      shapes[String(name.dropLast(7))] = try joined().shape(of: name)
    }
    let adapter = try LoRAFile(
      path: Fixture.path("animatediff_tiny_loras/animatediff_tiny.motion_original.safetensors"))
    let match = try adapter.match(against: shapes, strict: true)
    #expect(match.report.unmatched == [] && match.report.skipped.count == 16)
    #expect(match.report.skipped.allSatisfy { $0.hasPrefix("mid_block.") })
    #expect(match.report.notice?.contains("16 of its") == true)
    #expect(match.report.matchedKeys + match.report.skipped.count == adapter.totalKeys)
    // A model without motion modules is another matter.
    let image = shapes.filter { !$0.key.contains("motion_modules") }
    #expect(throws: LoRAError.self) { try adapter.match(against: image, strict: false) }
  }

  /// Gradients of a motion LoRA's factors against differences along a random direction.
  @Test(arguments: [false, true]) func motionLoRAGradient(recomputes: Bool) throws {
    let base = try ResidentSource(loading: try joined())
    var random = TorchRandom(seed: 9)
    let layers = try AdapterTargets.find(["*motion_modules*.to_q", "*motion_modules*.to_v"], in: base)
    let factors = layers.map { layer in
      AdapterFactors(
        module: layer.module, down: random.randn([2, layer.shape[1]]) * 0.3,
        up: random.randn([layer.shape[0], 2]) * 0.3)
    }
    let direction = factors.map { (random.randn($0.down.shape), random.randn($0.up.shape)) }
    let latents = try golden["forward.in.latents"]
    let weights = random.randn(latents.shape)
    let context = try golden["forward.in.embeds"]
    func loss(_ step: Float, isRecorded: Bool) throws -> (value: Tensor, leaves: [Tensor]) {
      let moved = zip(factors, direction).map { pair, along in
        AdapterFactors(
          module: pair.module, down: pair.down.adding(along.0, scaledBy: step),
          up: pair.up.adding(along.1, scaledBy: step))
      }
      let source = TrainableSource(base, factors: moved, scale: 1, isRecorded: isRecorded)
      let model = try UNetMotionModel(Weights(source), config)
      try source.checkTaken()
      var run = RunContext.plain
      run.recomputesActivations = recomputes
      let sample = try model.predict(latents, timesteps: [300], context: context, run)
      return ((sample * weights).sum(), source.leaves)
    }
    let (value, leaves) = try loss(0, isRecorded: true)
    let gradients = value.gradients(of: leaves)
    let slopes = zip(gradients, direction.flatMap { [$0.0, $0.1] }).map { ($0 * $1).sum().array()[0] }
    let slope = slopes.reduce(0) { $0 + Double($1) }
    let step: Float = 2e-3
    let ahead = try loss(step, isRecorded: false).value.array()[0]
    let behind = try loss(-step, isRecorded: false).value.array()[0]
    let difference = Double(ahead - behind) / Double(2 * step)
    #expect(abs(slope - difference) <= 0.01 * abs(difference), "\(slope), by differences \(difference)")
  }
}
