import DiffusionLayers
import TensorCore
import Testing

/// A LoRA of two layers, `[6, 4]` and `[4, 5]`, rank 2, with repeatable numbers.
struct TinyLoRA {
  static let modules: [String: (out: Int, in: Int)] = [
    "blocks.0.attn1.to_q": (out: 6, in: 4), "blocks.0.ffn.net.2": (out: 4, in: 5),
  ]
  /// The weights of a model with these layers.
  static let shapes = modules.mapValues { [$0.out, $0.in] }

  var prefix = "transformer."
  var down = ".lora_A.weight"
  var up = ".lora_B.weight"
  var ranks = ["blocks.0.attn1.to_q": 2, "blocks.0.ffn.net.2": 2]
  var alphas: [String: Float] = [:]
  var extra: [(String, Tensor)] = []
  var metadata: [(String, String)] = []

  func file(sidecar: String? = nil, alphaOverRank: Float? = nil) throws -> LoRAFile {
    var object: JSONObject?
    if let sidecar { object = try JSONValue.parse(sidecar).object }
    return try LoRAFile(source: memory(try bytes()), sidecar: object, alphaOverRank: alphaOverRank)
  }

  func bytes() throws -> [UInt8] {
    var writer = SafetensorsWriter(metadata: metadata)
    for (module, shape) in Self.modules {
      let rank = ranks[module] ?? 2
      writer.add(prefix + module + down, Self.numbers([rank, shape.in], 1))
      writer.add(prefix + module + up, Self.numbers([shape.out, rank], 2))
      if let alpha = alphas[module] { writer.add("\(prefix)\(module).alpha", Tensor([alpha], shape: [])) }
    }
    for (name, tensor) in extra { writer.add(name, tensor) }
    return try serialized(writer)
  }

  static func numbers(_ shape: [Int], _ seed: UInt64) -> Tensor {
    var random = Sequence64(state: seed)
    return Tensor(
      (0..<shape.reduce(1, *)).map { _ in Float.random(in: -1...1, using: &random) }, shape: shape)
  }
}

/// The update of one layer at strength 1, `[out, in]`, in row-major order.
func delta(_ pair: LoRAPair) -> [Double] {
  let (down, up) = (pair.down.array().map { Double($0) }, pair.up.array().map { Double($0) })
  let (rank, inputs, outputs) = (pair.down.shape[0], pair.down.shape[1], pair.up.shape[0])
  return (0..<(outputs * inputs)).map { index in
    let (row, column) = (index / inputs, index % inputs)
    return Double(pair.scale)
      * (0..<rank).reduce(0) { $0 + up[row * rank + $1] * down[$1 * inputs + column] }
  }
}

@Suite struct LoRAFileTests {
  /// The same adapter at alpha 8, rank 2, in every form that can say so.
  @Test func everyFormGivesTheSameUpdate() throws {
    let header = [("lora_adapter_metadata", #"{"transformer.r": 2, "transformer.lora_alpha": 8}"#)]
    let alphas: [String: Float] = ["blocks.0.attn1.to_q": 8, "blocks.0.ffn.net.2": 8]
    let files: [(LoRAFile, LoRADialect, LoRAAlphaRule)] = [
      (try TinyLoRA(metadata: header).file(), .diffusers, .header),
      (try TinyLoRA(alphas: alphas).file(), .diffusers, .tensor),
      (try TinyLoRA(prefix: "", alphas: alphas).file(), .bare, .tensor),
      (
        try TinyLoRA(prefix: "base_model.model.").file(
          sidecar: #"{"r": 2, "lora_alpha": 8, "peft_type": "LORA"}"#),
        .peft, .sidecar
      ),
      (
        try TinyLoRA(down: ".lora_A.default.weight", up: ".lora_B.default.weight").file(alphaOverRank: 4),
        .diffusers, .override
      ),
      (
        try TinyLoRA(prefix: "", metadata: [("ss_network_alpha", "8.0"), ("ss_network_dim", "2")]).file(),
        .bare, .kohyaHeader
      ),
    ]
    let expected = TinyLoRA.modules.mapValues { shape in
      delta(
        LoRAPair(
          down: TinyLoRA.numbers([2, shape.in], 1), up: TinyLoRA.numbers([shape.out, 2], 2), scale: 4))
    }
    for (file, dialect, rule) in files {
      #expect(file.dialect == dialect)
      let match = try file.match(against: TinyLoRA.shapes, strict: true)
      #expect(match.report.rules == [rule])
      #expect(match.report.effectiveScale == 4)
      for (module, expected) in expected {
        let found = delta(try #require(match.updates[module]?.pair))
        let largest = zip(found, expected).map { abs($0 - $1) }.max() ?? .infinity
        #expect(largest <= 1e-6 * (expected.map { abs($0) }.max() ?? 0), "\(dialect) \(rule) \(module)")
      }
    }
  }

  @Test func precedenceOfAlphaRules() throws {
    let header = ("lora_adapter_metadata", #"{"transformer.r": 2, "transformer.lora_alpha": 6}"#)
    let kohya = [("ss_network_alpha", "10"), ("ss_network_dim", "2")]
    let sidecar = #"{"r": 2, "lora_alpha": 12}"#
    func scales(_ lora: TinyLoRA, sidecar: String? = nil, override: Float? = nil) throws -> [Float] {
      try lora.file(sidecar: sidecar, alphaOverRank: override).layers.map(\.scale)
    }
    // A layer's own tensor wins, for that layer only; the others follow the header, the sidecar, or get 1.
    let one: [String: Float] = ["blocks.0.ffn.net.2": 4]
    #expect(try scales(TinyLoRA(alphas: one, metadata: [header] + kohya), sidecar: sidecar) == [3, 2])
    #expect(try scales(TinyLoRA(alphas: one, metadata: kohya), sidecar: sidecar) == [6, 2])
    #expect(try scales(TinyLoRA(alphas: one, metadata: kohya)) == [1, 2])
    #expect(try scales(TinyLoRA(metadata: [header] + kohya), sidecar: sidecar) == [3, 3])
    #expect(try scales(TinyLoRA(metadata: kohya), sidecar: sidecar) == [6, 6])
    #expect(try scales(TinyLoRA(metadata: kohya)) == [5, 5])
    #expect(try scales(TinyLoRA()) == [1, 1])
    #expect(try scales(TinyLoRA(alphas: one, metadata: [header]), override: 0.5) == [0.5, 0.5])
    // Nothing stored: 1 for every layer even when the ranks differ.
    let ranks = ["blocks.0.attn1.to_q": 1, "blocks.0.ffn.net.2": 3]
    #expect(try scales(TinyLoRA(ranks: ranks)) == [1, 1])
    // Settings about another component are no settings.
    let text = ("lora_adapter_metadata", #"{"text_encoder.r": 2, "text_encoder.lora_alpha": 6}"#)
    #expect(try scales(TinyLoRA(metadata: [text])) == [1, 1])
    #expect(try scales(TinyLoRA(metadata: [("ss_network_alpha", "None")])) == [1, 1])
  }

  @Test func patternsAndRankStabilizedScaling() throws {
    let ranks = ["blocks.0.attn1.to_q": 4, "blocks.0.ffn.net.2": 1]
    let settings = #"""
      {"transformer.r": 4, "transformer.lora_alpha": 8, "transformer.rank_pattern": {"ffn.net.2": 1},
       "transformer.alpha_pattern": {"^transformer.blocks.0.ffn.net.2": 3}, "transformer.use_rslora": RS}
      """#
    for (flag, expected) in [("false", [2, 3]), ("true", [4, 3])] as [(String, [Float])] {
      let text = settings.split(separator: "RS").joined(separator: flag)
      let file = try TinyLoRA(ranks: ranks, metadata: [("lora_adapter_metadata", text)]).file()
      #expect(file.layers.map(\.scale) == expected)
      #expect(file.report.ranks == [1, 4])
    }
  }

  @Test func refusesUnusableSettings() throws {
    let wrongRank = [("lora_adapter_metadata", #"{"transformer.r": 16, "transformer.lora_alpha": 8}"#)]
    #expect(
      throws: LoRAError.rankDisagrees(
        file: "f", module: "blocks.0.attn1.to_q", stated: 16, found: 2, origin: LoRAAlphaRule.header.name)
    ) { try TinyLoRA(metadata: wrongRank).file() }
    #expect(try TinyLoRA(metadata: wrongRank).file(alphaOverRank: 2).layers.map(\.scale) == [2, 2])
    for text in ["{", "[]", #"{"transformer.lora_alpha": "8"}"#, #"{"r": 2.5, "lora_alpha": 8}"#] {
      let error = #expect(throws: LoRAError.self) {
        try TinyLoRA(metadata: [("lora_adapter_metadata", text)]).file()
      }
      guard case .metadata? = error else {
        Issue.record("\(text): \(String(describing: error))")
        continue
      }
    }
    let regex = #"{"r": 2, "lora_alpha": 8, "alpha_pattern": {"blocks\\.[0-9]+\\.attn1": 3}}"#
    let error = #expect(throws: LoRAError.self) { try TinyLoRA().file(sidecar: regex) }
    #expect(error?.description.contains("plain module names") == true)
  }

  @Test(arguments: [Float.nan, .infinity, 0, -1, 1e30])
  func refusesAbsurdAlphas(alpha: Float) throws {
    let module = "blocks.0.attn1.to_q"
    let error = #expect(throws: LoRAError.self) { try TinyLoRA(alphas: [module: alpha]).file() }
    guard case .alpha(file: "f", module: module, _)? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(throws: LoRAError.self) { try TinyLoRA().file(alphaOverRank: alpha) }
  }

  @Test func readsAnIntegerAlpha() throws {
    var writer = SafetensorsWriter()
    writer.add("transformer.x.lora_A.weight", TinyLoRA.numbers([2, 4], 1))
    writer.add("transformer.x.lora_B.weight", TinyLoRA.numbers([4, 2], 1))
    writer.add("transformer.x.alpha", integers: [6], shape: [])
    #expect(try LoRAFile(source: memory(try serialized(writer))).layers.map(\.scale) == [3])
  }

  @Test func refusesBrokenPairs() throws {
    func file(_ tensors: [(String, [Int])]) throws -> LoRAFile {
      var writer = SafetensorsWriter()
      for (name, shape) in tensors {
        writer.add(
          name, bytes: [UInt8](repeating: 0, count: shape.reduce(4, *)), dtype: .float32, shape: shape)
      }
      return try LoRAFile(source: memory(try serialized(writer)))
    }
    #expect(throws: LoRAError.missingHalf(file: "f", module: "x", missing: "lora_B")) {
      try file([("transformer.x.lora_A.weight", [2, 4])])
    }
    #expect(throws: LoRAError.missingHalf(file: "f", module: "x", missing: "lora_A")) {
      try file([("x.lora_B.weight", [4, 2])])
    }
    #expect(throws: LoRAError.missingHalf(file: "f", module: "y", missing: "lora_A")) {
      try file([("x.lora_A.weight", [2, 4]), ("x.lora_B.weight", [4, 2]), ("y.alpha", [])])
    }
    #expect(throws: LoRAError.rankMismatch(file: "f", module: "x", down: [2, 4], up: [4, 3])) {
      try file([("x.lora_A.weight", [2, 4]), ("x.lora_B.weight", [4, 3])])
    }
    #expect(throws: LoRAError.rank(file: "f", module: "x", rank: 0, out: 4, in: 4)) {
      try file([("x.lora_A.weight", [0, 4]), ("x.lora_B.weight", [4, 0])])
    }
    // Above a layer's smaller side is wasteful and legal, above both sides nothing real.
    #expect(try file([("x.lora_A.weight", [5, 8]), ("x.lora_B.weight", [4, 5])]).layers.map(\.rank) == [5])
    #expect(throws: LoRAError.rank(file: "f", module: "x", rank: 9, out: 4, in: 8)) {
      try file([("x.lora_A.weight", [9, 8]), ("x.lora_B.weight", [4, 9])])
    }
    #expect(throws: LoRAError.notAMatrix(file: "f", tensor: "x.lora_A.weight", shape: [8])) {
      try file([("x.lora_A.weight", [8]), ("x.lora_B.weight", [4, 1])])
    }
    #expect(throws: LoRAError.notAMatrix(file: "f", tensor: "x.lora_B.weight", shape: [4, 2, 3, 3])) {
      try file([("x.lora_A.weight", [2, 4, 1, 1]), ("x.lora_B.weight", [4, 2, 3, 3])])
    }
    #expect(throws: LoRAError.missingHalf(file: "f", module: "x", missing: "lora_A")) {
      try file([("x.lora_B.bias", [4]), ("y.diff_b", [4])])
    }
    #expect(throws: LoRAError.bias(file: "f", tensor: "x.diff_b", expected: 4, found: [5])) {
      try file([("x.lora_A.weight", [2, 4]), ("x.lora_B.weight", [4, 2]), ("x.diff_b", [5])])
    }
    #expect(throws: LoRAError.notAMatrix(file: "f", tensor: "x.diff", shape: [])) {
      try file([("x.diff", [])])
    }
    #expect(
      throws: LoRAError.duplicateTarget(
        file: "f", module: "x", first: "x.diff", second: "x.lora_A.weight")
    ) { try file([("x.diff", [4, 4]), ("x.lora_A.weight", [2, 4]), ("x.lora_B.weight", [4, 2])]) }
    #expect(
      throws: LoRAError.duplicateTarget(
        file: "f", module: "blocks.0.attn1.to_q", first: "blocks.0.attn1.to_q.lora_A.weight",
        second: "lora_unet_blocks_0_self_attn_q.lora_down.weight")
    ) {
      try file([
        ("blocks.0.attn1.to_q.lora_A.weight", [2, 4]), ("blocks.0.attn1.to_q.lora_B.weight", [4, 2]),
        ("lora_unet_blocks_0_self_attn_q.lora_down.weight", [2, 4]),
      ])
    }
    #expect(
      throws: LoRAError.duplicateTarget(
        file: "f", module: "x", first: "transformer.x.lora_A.weight", second: "x.lora_A.weight")
    ) {
      try file([
        ("transformer.x.lora_A.weight", [2, 4]), ("x.lora_A.weight", [2, 4]), ("x.lora_B.weight", [4, 2]),
      ])
    }
    #expect(throws: LoRAError.notAnAdapter(file: "f", tensors: 1)) { try file([("x.weight", [2, 4])]) }
  }

  @Test(
    arguments: [
      ("transformer.blocks.0.attn1.to_q.dora_scale", .dora), ("x.lora_magnitude_vector.weight", .dora),
      ("lora_unet_blocks_0_self_attn_q.hada_w1_a", .loha), ("lora_unet_blocks_0_self_attn_q.lokr_w1", .lokr),
      ("lora_unet_blocks_0_self_attn_q.a1.weight", .glora), ("x.oft_blocks", .oft), ("x.oft_R.weight", .oft),
      ("base_model.model.x.boft_R", .boft), ("base_model.model.x.ia3_l", .ia3), ("x.on_input", .ia3),
      ("base_model.model.x.vera_lambda_b", .vera), ("x.hra_u", .hra), ("x.vblora_logits_A", .vblora),
      ("x.fourierft_spectrum", .fourier), ("base_model.model.x.lora_E", .adalora), ("x.bone_block", .bone),
      ("lora_unet_down_blocks_0_resnets_0_conv1.lora_mid.weight", .tucker), ("x.reshape_weight", .reshape),
      ("x.set_weight", .setWeight), ("base_model.model.x.lora_embedding_A", .embedding),
    ] as [(String, AdapterMethod)])
  func refusesOtherMethodsByName(key: String, method: AdapterMethod) throws {
    var lora = TinyLoRA()
    lora.extra = [(key, Tensor.zeros([2, 2]))]
    let error = #expect(throws: LoRAError.self) { try lora.file() }
    #expect(error == .method(file: "f", method: method, tensor: key))
    #expect(error?.description.contains(method.name) == true)
  }

  @Test func passesOnFileErrors() throws {
    #expect(throws: LoRAError.file(.tooSmall(file: "f", bytes: 3))) {
      try LoRAFile(source: memory([1, 2, 3]))
    }
    #expect(throws: LoRAError.file(.notFound(file: "/no/such.safetensors"))) {
      try LoRAFile(path: "/no/such.safetensors")
    }
    var lora = TinyLoRA()
    lora.extra = [
      ("z.lora_A.weight", Tensor([.nan], shape: [1, 1])), ("z.lora_B.weight", Tensor([1], shape: [1, 1])),
    ]
    var modules = TinyLoRA.shapes
    modules["z"] = [1, 1]
    #expect(throws: LoRAError.file(.notFinite(file: "f", tensor: "z.lora_A.weight", index: 0))) {
      try lora.file().match(against: modules, strict: true)
    }
  }

  @Test func opensFoldersAndSidecars() throws {
    let folder = TemporaryFolder()
    #expect(throws: LoRAError.self) { try LoRAFile(path: folder.path) }
    let bytes = try TinyLoRA(prefix: "base_model.model.").bytes()
    let path = try folder.write(bytes, to: "adapter_model.safetensors")
    #expect(try LoRAFile(path: folder.path).layers.map(\.rule) == [.none, .none])
    try folder.write(#"{"r": 2, "lora_alpha": 3}"#, to: "adapter_config.json")
    for place in [folder.path, path] {
      let file = try LoRAFile(path: place)
      #expect(file.name == path)
      #expect(file.layers.map(\.rule) == [.sidecar, .sidecar])
      #expect(file.layers.map(\.scale) == [1.5, 1.5])
    }
    try folder.write("{", to: "adapter_config.json")
    #expect(throws: LoRAError.self) { try LoRAFile(path: path) }
  }
}
