import DiffusionLayers
import TensorCore
import TestSupport
import Testing

/// How adapters are made to fit together: norms, gains, projections, reports, headers.
@Suite struct AdapterFusionTests {
  private static let width = 12
  private static let modules = (0..<3).flatMap { block in
    ["to_q", "to_v"].map { "blocks.\(block).attn1.\($0)" }
  }
  private static let model = ResidentSource(
    name: "model",
    tensors: Dictionary(
      uniqueKeysWithValues: modules.map { ("\($0).weight", Tensor.zeros([width, width])) }))

  /// Writes a random adapter of rank 3; `scale` multiplies B, `statesNorms` stores the norms before that.
  private func adapter(
    _ folder: TemporaryFolder, _ name: String, seed: UInt64, scale: Float = 1, role: String? = "camera",
    statesNorms: Bool = true, size: Float = 1
  ) throws -> LoRAFile {
    func write(_ factor: Float, _ metadata: [(String, String)]) throws -> LoRAFile {
      var random = TorchRandom(seed: seed)
      var writer = SafetensorsWriter(metadata: metadata)
      for (index, module) in Self.modules.enumerated() {
        let up = random.randn([Self.width, 3]) * (factor * size * (1 + 0.3 * Float(index)))
        writer.add("transformer.\(module).lora_A.weight", random.randn([3, Self.width]))
        writer.add("transformer.\(module).lora_B.weight", up)
      }
      try writer.write(to: "\(folder.path)/\(name).safetensors")
      return try LoRAFile(path: "\(folder.path)/\(name).safetensors")
    }
    var header = AdapterHeader()
    header.role = role
    if statesNorms { header.weightNorms = try write(1, []).measuredNorms() }
    return try write(scale, header.metadata)
  }

  /// The fused change `[out, in]` of a module under a mode, all strengths 1.
  private func fused(_ files: [LoRAFile], _ module: String, _ mode: ComposeMode) throws -> Tensor {
    let source = AdaptedSource(
      Self.model, adapters: try files.map { try $0.match(against: Self.model, strict: true) })
    let layer = try Linear(Weights(source, path: module), Self.width, Self.width, bias: false)
    var run = RunContext(strengths: files.map { _ in [1] })
    run.compose = mode
    var unit = [Float](repeating: 0, count: Self.width * Self.width)
    for index in 0..<Self.width { unit[index * Self.width + index] = 1 }
    return layer(Tensor(unit, shape: [1, Self.width, Self.width]), run).reshaped([Self.width, Self.width])
      .permuted([1, 0])
  }

  private func norm(_ tensor: Tensor) -> Double {
    tensor.array().reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
  }

  private func change(_ a: Tensor, _ b: Tensor) -> Double { norm(a - b) / norm(b) }

  @Test func normOfAnUpdate() {
    let pair = LoRAPair(
      down: Tensor([1, 2, 0, 1], shape: [2, 2]), up: Tensor([1, 1, 0, 2], shape: [2, 2]), scale: 1)
    // up · down = [[1, 3], [0, 2]]
    #expect(abs(LayerUpdate.Change.lowRank(pair).norm - 14.0.squareRoot()) < 1e-9)
  }

  @Test func normsAndProductsFromGrams() throws {
    let folder = TemporaryFolder()
    let files = [try adapter(folder, "a", seed: 1), try adapter(folder, "b", seed: 2)]
    let report = try AdapterInterference(files)
    #expect(report.layers.map(\.module) == Self.modules && report.blocks.map(\.index) == [0, 1, 2])
    for layer in report.layers {
      let (a, b) = (try fused([files[0]], layer.module, .sum), try fused([files[1]], layer.module, .sum))
      #expect(
        abs(layer.norms[0] - norm(a)) < 1e-4 * norm(a) && abs(layer.norms[1] - norm(b)) < 1e-4 * norm(b))
      let product = zip(a.array(), b.array()).reduce(0.0) { $0 + Double($1.0) * Double($1.1) }
      #expect(abs(layer.cosine - abs(product) / norm(a) / norm(b)) < 1e-5)
    }
  }

  /// T3: equal norms in every layer, and an adapter whose B was made five times as large changes nothing.
  @Test func normConsistency() throws {
    let folder = TemporaryFolder()
    let first = try adapter(folder, "a", seed: 1)
    let second = try adapter(folder, "b", seed: 2, size: 0.4)
    let attacked = try adapter(folder, "c", seed: 2, scale: 5, size: 0.4)
    let report = try AdapterInterference([first, second])
    #expect(report.layers.allSatisfy { $0.normRatio > 1.5 && $0.composedRatio <= 1.001 }, "\(report.layers)")
    for module in Self.modules {
      let both = try fused([first, second], module, .norm)
      #expect(change(try fused([first, attacked], module, .norm), both) < 0.01)
      let sum = try fused([first, second], module, .sum)
      #expect(change(try fused([first, attacked], module, .sum), sum) > 0.1)
      // The geometric mean of both norms is what each has now.
      let (a, b) = (try fused([first], module, .norm), try fused([second], module, .norm))
      let mean = (norm(a) * norm(b)).squareRoot()
      let expected = a * Float(mean / norm(a)) + b * Float(mean / norm(b))
      #expect(change(both, expected) < 1e-5)
    }
  }

  @Test func groupsAreRoles() throws {
    let folder = TemporaryFolder()
    let camera = try adapter(folder, "a", seed: 1)
    let motion = try adapter(folder, "b", seed: 2, role: "motion", size: 0.3)
    let module = Self.modules[3]
    #expect(
      try fused([camera, motion], module, .norm).array() == fused([camera, motion], module, .sum).array())
    // One adapter alone is as it is in every mode.
    let alone = try fused([camera], module, .sum).array()
    for mode in ComposeMode.allCases { #expect(try fused([camera], module, mode).array() == alone) }
    // An adapter that states no norms is brought to those that do, and leaves them alone.
    let plain = try adapter(folder, "c", seed: 3, statesNorms: false, size: 2)
    let report = try AdapterInterference([camera, plain])
    #expect(report.layers.allSatisfy { $0.composedRatio < 1.001 })
    let sum = try fused([camera], module, .sum)
    let rest = try fused([camera, plain], module, .norm) - sum
    #expect(abs(norm(rest) / norm(sum) - 1) < 1e-4)
  }

  @Test func gainsAreBounded() throws {
    let folder = TemporaryFolder()
    let files = [
      try adapter(folder, "a", seed: 1, statesNorms: false),
      try adapter(folder, "b", seed: 2, statesNorms: false, size: 1e4),
    ]
    // A gain of more than 8 would say that something is wrong with a file.
    let report = try AdapterInterference(files)
    #expect(report.layers.allSatisfy { $0.composedRatio < 1.01 * $0.normRatio / 64 && $0.composedRatio > 10 })
  }

  @Test func projectionTakesTheMainDirectionsOut() throws {
    let folder = TemporaryFolder()
    let files = [try adapter(folder, "a", seed: 1, role: "style"), try adapter(folder, "b", seed: 2)]
    for module in Self.modules {
      let style = try fused([files[0]], module, .sum)
      let rest = try fused(files, module, .projected) - style
      // What is left of the camera sees nothing of the style's strongest direction, found by power iteration.
      var direction = Tensor([Float](repeating: 1, count: Self.width), shape: [1, Self.width])
      for _ in 0..<500 {
        let image = Tensor.linear(direction, weight: style)
        direction = Tensor.linear(image, weight: style.permuted([1, 0]).contiguous())
        direction = direction * Float(1 / norm(direction))
      }
      #expect(norm(Tensor.linear(direction, weight: rest)) < 1e-4 * norm(rest))
      let camera = try fused([files[1]], module, .sum)
      #expect(norm(rest) < norm(camera) && norm(rest) > 0.2 * norm(camera))
      // The order of roles counts, not that of loading.
      let other = try fused([files[1], files[0]], module, .projected)
      #expect(change(other, try fused(files, module, .projected)) < 1e-5)
    }
  }

  @Test(arguments: [ComposeMode.norm, .projected]) func mergedFilesActAsTheRunDoes(_ mode: ComposeMode) throws
  {
    let folder = TemporaryFolder()
    let files = [try adapter(folder, "a", seed: 1), try adapter(folder, "b", seed: 2, size: 0.4)]
    let path = folder.path + "/merged.safetensors"
    _ = try LoRAMerge.sum(files.map { ($0, 1) }, compose: mode, as: .diffusers, path: path)
    for module in Self.modules {
      let merged = try fused([try LoRAFile(path: path)], module, .sum)
      #expect(change(merged, try fused(files, module, mode)) < 1e-5)
      #expect(change(merged, try fused(files, module, .sum)) > 0.01)
    }
  }

  @Test func reportFollowsDepth() throws {
    let folder = TemporaryFolder()
    // The second adapter is the first one in ever larger shares from block to block.
    var writers = [SafetensorsWriter(), SafetensorsWriter()]
    var random = TorchRandom(seed: 9)
    for (index, module) in Self.modules.enumerated() {
      let (a, b, other) = (
        random.randn([2, Self.width]), random.randn([Self.width, 2]), random.randn([Self.width, 2])
      )
      let share = Float(index / 2) / 2
      for which in 0..<2 {
        writers[which].add("transformer.\(module).lora_A.weight", a)
        writers[which].add(
          "transformer.\(module).lora_B.weight", which == 0 ? b : b * share + other * (1 - share))
      }
    }
    var files: [LoRAFile] = []
    for (index, writer) in writers.enumerated() {
      try writer.write(to: "\(folder.path)/\(index).safetensors")
      files.append(try LoRAFile(path: "\(folder.path)/\(index).safetensors"))
    }
    let report = try AdapterInterference(files)
    #expect(abs(report.blocks[2].cosine - 1) < 1e-6 && report.blocks[0].cosine < 0.7)
    #expect(report.depthCorrelation == 1)
    #expect(report.orthogonalPrefix <= 1)
  }

  // MARK: headers and tokens

  private func token(
    _ tensors: [(String, [Float], [Int])], header: String? = nil
  ) -> Result<ControlToken?, any Error> {
    Result {
      var writer = SafetensorsWriter(metadata: header.map { [(AdapterHeader.key, $0)] } ?? [])
      writer.add("transformer.blocks.0.attn1.to_q.lora_A.weight", Tensor.zeros([1, 4]))
      writer.add("transformer.blocks.0.attn1.to_q.lora_B.weight", Tensor.zeros([4, 1]))
      for (name, values, shape) in tensors { writer.add(name, Tensor(values, shape: shape)) }
      return try LoRAFile(source: memory(try serialized(writer))).controlToken()
    }
  }

  @Test func tokensAreReadAndWritten() throws {
    let found = try #require(
      try token(
        [
          ("control.e0", [1, 2, 3, 4], [4]), ("control.e1", [10, 20, 30, 40], [4]),
          ("control.bias", [-4, -3], [2]),
        ], header: #"{"strength_range": [-1, 1], "calibration": [-1, -0.1, 1]}"#
      ).get())
    #expect(found.width == 4 && found.range == -1...1 && found.bias.array() == [-4, -3])
    #expect(found.tokens([0, 0.5]).array() == [1, 2, 3, 4, 6, 12, 18, 24])
    #expect(found.position(-3) == -1 && found.position(0) == -0.1 && abs(found.position(0.5) - 0.45) < 1e-6)
    var writer = SafetensorsWriter()
    found.add(to: &writer)
    let again = try SafetensorsFile(source: memory(try serialized(writer)))
    #expect(again.names.sorted() == ["control.bias", "control.e0", "control.e1"])
    #expect(try again.load("control.e1").array() == [10, 20, 30, 40])
    #expect(try token([]).get() == nil)
  }

  @Test func badTokensAreRefused() {
    let e0 = ("control.e0", [Float](repeating: 0, count: 4), [4])
    let e1 = ("control.e1", [Float](repeating: 0, count: 4), [4])
    let bias = ("control.bias", [Float(-4)], [1])
    for (tensors, header) in [
      ([e0, bias], nil), ([e1, bias], nil), ([e0, e1], nil),
      ([e0, ("control.e1", [0, 0], [2]), bias], nil),
      ([e0, e1, ("control.e3", [0, 0, 0, 0], [4]), bias], nil),
      ([e0, e1, ("control.bias", [0, 0, 0, 0], [2, 2])], nil),
      ([e0, ("control.e1", [0, .nan, 0, 0], [4]), bias], nil),
      ([e0, e1, bias], "["), ([e0, e1, bias], #"{"strength_range": [1, 0]}"#),
      ([e0, e1, bias], #"{"strength_range": "all"}"#), ([e0, e1, bias], #"{"calibration": [0, 1, 0.5]}"#),
      ([e0, e1, bias], #"{"calibration": [0, 7]}"#), ([e0, e1, bias], #"{"weight_norms": {"a": "b"}}"#),
    ] as [([(String, [Float], [Int])], String?)] {
      #expect(throws: LoRAError.self, "\(tensors) \(header ?? "")") {
        try token(tensors, header: header).get()
      }
    }
  }

  @Test func headersComeBack() throws {
    var header = AdapterHeader()
    (header.base, header.role, header.method, header.rank) = ("wan", "camera", "lion", 8)
    (header.strengthRange, header.calibration) = (0...1, [0, 0.4, 1.5])
    header.weightNorms = ["blocks.0.attn1.to_q": -1.25]
    header.featureNorms = ["blocks.0.attn1.to_q": 0.5]
    header.orthogonality = ["blocks.0.attn1.to_q": 0.01]
    (header.trigger, header.licence) = ("pan", "CC0-1.0")
    var writer = SafetensorsWriter(metadata: header.metadata)
    writer.add("transformer.blocks.0.attn1.to_q.lora_A.weight", Tensor.zeros([1, 4]))
    writer.add("transformer.blocks.0.attn1.to_q.lora_B.weight", Tensor.zeros([4, 1]))
    let file = try LoRAFile(source: memory(try serialized(writer)))
    #expect(try file.header() == header && file.role == "camera")
  }

  @Test func tokensPassThroughConversionsAndNotThroughSums() throws {
    let folder = TemporaryFolder()
    var writer = SafetensorsWriter()
    writer.add("transformer.blocks.0.attn1.to_q.lora_A.weight", Tensor.zeros([1, 4]))
    writer.add("transformer.blocks.0.attn1.to_q.lora_B.weight", Tensor.zeros([4, 1]))
    ControlToken(
      coefficients: Tensor([1, 2, 3, 4, 5, 6, 7, 8], shape: [2, 4]), bias: Tensor([-4], shape: [1])
    )
    .add(to: &writer)
    try writer.write(to: folder.path + "/a.safetensors")
    let file = try LoRAFile(path: folder.path + "/a.safetensors")
    #expect(file.otherKeys.isEmpty && file.report.matchedKeys == file.totalKeys)
    _ = try LoRAWriter.convert(file, to: .kohya, path: folder.path + "/b.safetensors")
    let token = try #require(try LoRAFile(path: folder.path + "/b.safetensors").controlToken())
    #expect(token.coefficients.array() == [1, 2, 3, 4, 5, 6, 7, 8])
    #expect(throws: LoRAError.self) {
      try LoRAMerge.sum([(file, 1)], as: .diffusers, path: folder.path + "/c.safetensors")
    }
  }
}
