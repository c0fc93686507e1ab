import DiffusionLayers
import TensorCore
import TestSupport
import Testing

/// Whole differences of weights, biases and norms, beside pairs.
@Suite struct LoRADifferenceTests {
  private static let model = ResidentSource(
    name: "m",
    tensors: [
      "blocks.0.attn1.to_q.weight": TinyLoRA.numbers([6, 4], 11),
      "blocks.0.attn1.to_q.bias": TinyLoRA.numbers([6], 12),
      "blocks.0.norm2.weight": TinyLoRA.numbers([4], 13), "blocks.0.norm2.bias": TinyLoRA.numbers([4], 14),
      "blocks.0.attn1.norm_q.weight": TinyLoRA.numbers([4], 15),
      "patch_embedding.weight": TinyLoRA.numbers([6, 1, 1, 2, 2], 16),
      "patch_embedding.bias": TinyLoRA.numbers([6], 17), "other.weight": TinyLoRA.numbers([3, 3], 18),
    ])

  private func adapted(_ tensors: [(String, Tensor)]) throws -> AdaptedSource {
    var writer = SafetensorsWriter()
    for (name, tensor) in tensors { writer.add("diffusion_model." + name, tensor) }
    let file = try LoRAFile(source: memory(try serialized(writer)))
    return AdaptedSource(Self.model, adapters: [try file.match(against: Self.model, strict: true)])
  }

  /// The base's weights plus `strength` times the changes, computed in one place per tensor.
  private func merged(_ changes: [String: Tensor], _ strength: Float) throws -> ResidentSource {
    var tensors: [String: Tensor] = [:]
    for name in Self.model.names {
      let shape = try #require(Self.model.shape(of: name))
      let base = try Self.model.load(name, shape: shape)
      tensors[name] = changes[name].map { base.adding($0.reshaped(shape), scaledBy: strength) } ?? base
    }
    return ResidentSource(name: "merged", tensors: tensors)
  }

  private static let x = TinyLoRA.numbers([1, 6, 4], 21)

  @Test(arguments: [0, 0.5, -1.25] as [Float])
  func linearWithWholeDifference(strength: Float) throws {
    let (weight, bias) = (TinyLoRA.numbers([6, 4], 31), TinyLoRA.numbers([6], 32))
    let source = try adapted([("blocks.0.self_attn.q.diff", weight), ("blocks.0.self_attn.q.diff_b", bias)])
    let layer = try Linear(Weights(source)["blocks"][0]["attn1"]["to_q"], 4, 6)
    try source.checkApplied()
    let expected = try Linear(
      Weights(
        try merged(["blocks.0.attn1.to_q.weight": weight, "blocks.0.attn1.to_q.bias": bias], strength))[
          "blocks"][0][
          "attn1"]["to_q"], 4, 6)
    let difference = Difference(layer(Self.x, RunContext(strengths: [[strength]])), expected(Self.x, .plain))
    #expect(difference.relative <= Tolerance.operation, "\(difference)")
  }

  /// The bias of B is scaled with the pair, `.diff_b` is not; both count with the strength.
  @Test func biasesBesidePairs() throws {
    let (down, up, bias) = (
      TinyLoRA.numbers([2, 4], 41), TinyLoRA.numbers([6, 2], 42), TinyLoRA.numbers([6], 43)
    )
    let pair: [(String, Tensor)] = [
      ("blocks.0.self_attn.q.lora_A.weight", down), ("blocks.0.self_attn.q.lora_B.weight", up),
      ("blocks.0.self_attn.q.alpha", Tensor([1], shape: [])),
    ]
    let change = Tensor.linear(up, weight: down.permuted([1, 0]).contiguous()) * 0.5
    for (key, scale) in [("lora_B.bias", 0.5), ("diff_b", 1)] as [(String, Float)] {
      let source = try adapted(pair + [("blocks.0.self_attn.q.\(key)", bias)])
      let layer = try Linear(Weights(source)["blocks"][0]["attn1"]["to_q"], 4, 6)
      let reference = try merged(
        ["blocks.0.attn1.to_q.weight": change, "blocks.0.attn1.to_q.bias": bias * scale], 0.75)
      let expected = try Linear(Weights(reference)["blocks"][0]["attn1"]["to_q"], 4, 6)
      let difference = Difference(layer(Self.x, RunContext(strengths: [[0.75]])), expected(Self.x, .plain))
      #expect(difference.relative <= Tolerance.operation, "\(key) \(difference)")
    }
  }

  /// Strengths that differ between frames act on each frame as if the whole clip had them.
  @Test func animatedStrengthsActPerFrame() throws {
    let source = try adapted([
      ("blocks.0.self_attn.q.diff", TinyLoRA.numbers([6, 4], 31)),
      ("blocks.0.self_attn.q.diff_b", TinyLoRA.numbers([6], 32)),
      ("blocks.0.norm3.diff", TinyLoRA.numbers([4], 33)),
      ("blocks.0.norm3.diff_b", TinyLoRA.numbers([4], 34)),
    ])
    let block = Weights(source)["blocks"][0]
    let (linear, norm) = (
      try Linear(block["attn1"]["to_q"], 4, 6), try LayerNorm(block["norm2"], 4, eps: 1e-6)
    )
    let strengths: [Float] = [0.25, -1, 2]
    let animated = RunContext(strengths: [strengths], axis: .frames(perFrame: 2))
    let (moving, normed) = (linear(Self.x, animated), norm(Self.x, animated))
    for (frame, strength) in strengths.enumerated() {
      let still = RunContext(strengths: [[strength]], axis: .frames(perFrame: 2))
      for (found, expected) in [(moving, linear(Self.x, still)), (normed, norm(Self.x, still))] {
        let difference = Difference(
          found.narrow(1, from: 2 * frame, length: 2), expected.narrow(1, from: 2 * frame, length: 2))
        #expect(difference.relative <= Tolerance.operation, "\(difference)")
      }
    }
  }

  @Test(arguments: [0, 0.5, -1.25] as [Float])
  func norms(strength: Float) throws {
    let (weight, bias, scale) = (
      TinyLoRA.numbers([4], 51), TinyLoRA.numbers([4], 52), TinyLoRA.numbers([4], 53)
    )
    let source = try adapted([
      ("blocks.0.norm3.diff", weight), ("blocks.0.norm3.diff_b", bias),
      ("blocks.0.self_attn.norm_q.diff", scale),
    ])
    let reference = try merged(
      [
        "blocks.0.norm2.weight": weight, "blocks.0.norm2.bias": bias, "blocks.0.attn1.norm_q.weight": scale,
      ], strength)
    let run = RunContext(strengths: [[strength]])
    let (found, expected) = (Weights(source)["blocks"][0], Weights(reference)["blocks"][0])
    let layer = Difference(
      try LayerNorm(found["norm2"], 4, eps: 1e-6)(Self.x, run),
      try LayerNorm(expected["norm2"], 4, eps: 1e-6)(Self.x, run))
    #expect(layer.relative <= Tolerance.operation, "\(layer)")
    let rms = Difference(
      try RMSNorm(found["attn1"]["norm_q"], 4, eps: 1e-6)(Self.x, run),
      try RMSNorm(expected["attn1"]["norm_q"], 4, eps: 1e-6)(Self.x, run))
    #expect(rms.relative <= Tolerance.operation, "\(rms)")
    try source.checkApplied()
  }

  /// A convolution over patches takes pairs, with their kernel, and biases.
  @Test func patchEmbedding() throws {
    let (down, up, bias) = (
      TinyLoRA.numbers([2, 1, 1, 2, 2], 61), TinyLoRA.numbers([6, 2, 1, 1, 1], 62), TinyLoRA.numbers([6], 63)
    )
    let source = try adapted([
      ("patch_embedding.lora_down.weight", down), ("patch_embedding.lora_up.weight", up),
      ("patch_embedding.diff_b", bias),
    ])
    let change = Tensor.linear(
      up.reshaped([6, 2]), weight: down.reshaped([2, 4]).permuted([1, 0]).contiguous())
    let reference = try merged(["patch_embedding.weight": change, "patch_embedding.bias": bias], 0.5)
    let difference = Difference(
      try Linear(patches: Weights(source)["patch_embedding"], [1, 1, 2, 2], 6)(
        Self.x, RunContext(strengths: [[0.5]])),
      try Linear(patches: Weights(reference)["patch_embedding"], [1, 1, 2, 2], 6)(Self.x, .plain))
    #expect(difference.relative <= Tolerance.operation, "\(difference)")
  }

  @Test func aDifferenceOfAnotherShapeIsRefused() throws {
    for (name, shape) in [
      ("blocks.0.norm3.diff", [5]), ("blocks.0.self_attn.q.diff", [6]), ("other.diff", [3, 4]),
    ] {
      let error = #expect(throws: LoRAError.self) { try adapted([(name, Tensor.zeros(shape))]) }
      guard case .shape? = error else {
        Issue.record("\(name) \(String(describing: error))")
        continue
      }
    }
  }

  /// Nothing is left out in silence: an update that no layer asked for is an error.
  @Test func aLayerThatNobodyAdaptsIsNamed() throws {
    let source = try adapted([
      ("other.diff", Tensor.zeros([3, 3])), ("blocks.0.self_attn.q.diff", Tensor.zeros([6, 4])),
    ])
    _ = try Linear(Weights(source)["blocks"][0]["attn1"]["to_q"], 4, 6)
    let error = #expect(throws: LoRAError.self) { try source.checkApplied() }
    #expect(error == .notApplied(file: "f", module: "other"))
  }
}
