import TensorCore
import TestSupport
import Testing

/// Recorded gradients against central differences, and the tape's own rules.
@Suite struct GradientTests {
  private var random = TorchRandom(seed: 7)

  private func leaves(_ shapes: [[Int]]) -> [Tensor] {
    var random = random
    return shapes.map { random.randn($0) }
  }

  private func check(_ shapes: [[Int]], _ function: ([Tensor]) -> Tensor) {
    // A weighting that differs between elements, so that no wrong sum cancels.
    for difference in GradientCheck.differences(of: leaves(shapes), { weighted(function($0)) }) {
      #expect(difference.relative < Tolerance.finiteDifference, "\(difference)")
    }
  }

  private func weighted(_ y: Tensor) -> Tensor {
    let weights = (0..<y.count).map { 0.5 + Float($0 % 7) * 0.1 }
    return (y * Tensor(weights, shape: y.shape)).sum()
  }

  @Test func linear() {
    check([[2, 3, 4], [5, 4], [5]]) { Tensor.linear($0[0], weight: $0[1], bias: $0[2]) }
  }

  @Test func norms() {
    check([[2, 3, 8], [8], [8]]) { Tensor.layerNorm($0[0], weight: $0[1], bias: $0[2], eps: 1e-5) }
    check([[2, 3, 8], [8]]) { Tensor.rmsNorm($0[0], weight: $0[1], eps: 1e-5) }
    check([[2, 3, 8], [2, 1, 8], [2, 1, 8]]) {
      Tensor.layerNormModulated($0[0], scale: $0[1], shift: $0[2], eps: 1e-5)
    }
  }

  @Test func attention() {
    check([[1, 3, 2, 4], [1, 5, 2, 4], [1, 5, 2, 4]]) { Tensor.attention($0[0], $0[1], $0[2]) }
    let bias = Tensor([0, -.infinity, 0.5, 0, 0, 0, 0, -1, 0, 0, 0, 0, 0, 0, -.infinity], shape: [3, 5])
    check([[1, 3, 2, 4], [1, 5, 2, 4], [1, 5, 2, 4]]) { Tensor.attention($0[0], $0[1], $0[2], bias: bias) }
    // Heads of their own, a bias per key that learns, keys of one frame, and layouts with heads first.
    let perHead = Tensor((0..<30).map { $0 % 7 == 3 ? -.infinity : Float($0 % 5) * 0.2 }, shape: [2, 3, 5])
    let frames = FrameVisibility(queries: [0, 0, 1], keys: [-1, -1, -1, 0, 1])
    check([[2, 2, 3, 4], [2, 2, 5, 4], [2, 2, 5, 4], [5]]) { inputs in
      let parts = inputs.prefix(3).map { $0.permuted([0, 2, 1, 3]) }
      return Tensor.attention(
        parts[0], parts[1], parts[2],
        mask: AttentionMask(bias: perHead, keyBias: inputs[3], frames: frames), scale: 0.7)
    }
  }

  @Test func elementwiseAndViews() {
    check([[2, 3], [1, 3]]) { $0[0] * $0[1] + $0[0] }
    check([[2, 3], [2, 1]]) { $0[0] - $0[1] }
    check([[2, 3]]) { $0[0] * $0[0] }
    check([[2, 6]]) { $0[0].reshaped([3, 4]).permuted([1, 0]).contiguous() }
    check([[2, 3, 4], [2, 3, 4], [2, 1, 4]]) { Tensor.gatedAdd($0[0], $0[1], gate: $0[2]) }
    check([[1, 4, 2, 6]]) { x in
      let angles = Tensor((0..<12).map { Float($0) * 0.3 }, shape: [4, 3])
      let cosine = Tensor(angles.array().map { ($0 * 0.5 + 0.2) }, shape: [4, 3])
      let sine = Tensor(angles.array().map { (0.9 - $0 * 0.1) }, shape: [4, 3])
      return Tensor.rotary(x[0], cosine: cosine, sine: sine)
    }
  }

  @Test func adapterThroughFrozenLayer() {
    // The gradient reaches the low-rank factors through frozen layers, and no base weight records anything.
    let frozen = leaves([[6, 4]])[0]
    check([[3, 4], [2, 4], [6, 2]]) { inputs in
      let hidden = Tensor.linear(Tensor.linear(inputs[0], weight: inputs[1]), weight: inputs[2])
      return Tensor.rmsNorm(Tensor.linear(inputs[0], weight: frozen) + hidden, eps: 1e-5)
    }
    #expect(!Tensor.linear(leaves([[3, 4]])[0], weight: frozen).isRecorded)
  }

  @Test func activations() {
    check([[3, 19]]) { $0[0].silu() }
    check([[3, 19]]) { $0[0].geluTanh() }
    check([[3, 19]]) { $0[0].softClamped(1.5) }
    let apart = Tensor((0..<57).map { Float($0 % 2 * 2 - 1) * (0.3 + Float($0) * 0.01) }, shape: [3, 19])
    for difference in GradientCheck.differences(of: [apart], { weighted($0[0].relu()) }) {
      #expect(difference.relative < Tolerance.finiteDifference, "\(difference)")
    }
    for activation in [Activation.relu, .silu, .geluTanh] {
      let (weight, bias) = (leaves([[5, 4], [5]])[0] * 0.3 + 0.2, Tensor(repeating: 3, shape: [5]))
      check([[2, 3, 4]]) { Tensor.linear($0[0], weight: weight, bias: bias, activation: activation) }
    }
  }

  @Test func partsAndJoins() {
    check([[2, 5, 3]]) { $0[0].narrow(1, from: 1, length: 3) }
    check([[2, 5, 3]]) { $0[0].select(1, 2) }
    check([[2, 5, 3]]) { x in
      // Overlapping parts of one value: their gradients meet in one sum.
      x[0].narrow(1, from: 0, length: 4) * x[0].narrow(1, from: 1, length: 4)
    }
    check([[2, 1, 3]]) { $0[0].expanded([2, 4, 3]).contiguous() }
    check([[3]]) { $0[0].expanded([2, 4, 3]).contiguous() }
    check([[2, 3, 2], [2, 1, 2]]) { Tensor.concatenated([$0[0], $0[1], $0[0]], axis: 1) }
    check([[2, 3], [2, 3]]) { $0[0].adding($0[1], scaledBy: 0.7) }
  }

  @Test func meanSquaredError() {
    let target = leaves([[2, 3], [2, 3]])[1]
    check([[2, 3]]) { $0[0].meanSquaredError(target) }
  }

  @Test func lowRankChange() {
    let (weight, bias) = (leaves([[6, 4]])[0], Tensor(repeating: 0.1, shape: [6]))
    check([[2, 3, 4], [2, 4], [6, 2]]) { inputs in
      Tensor.linear(inputs[0], weight: weight, bias: bias)
        .addingLowRank(inputs[0], down: inputs[1], up: inputs[2], scale: 0.5)
    }
    // The same numbers as the change computed apart; a result that somebody else holds is not written to.
    let inputs = leaves([[2, 3, 4], [2, 4], [6, 2]])
    let base = Tensor.linear(inputs[0], weight: weight)
    let before = base.array()
    let sum = base.addingLowRank(inputs[0], down: inputs[1], up: inputs[2], scale: 0.5)
    let apart = Tensor.linear(Tensor.linear(inputs[0], weight: inputs[1]), weight: inputs[2])
    #expect(Difference(sum, base.adding(apart, scaledBy: 0.5)).relative < Tolerance.operation)
    #expect(base.array() == before)
  }

  @Test func halfWidthWeights() {
    // bf16 numbers 0.5, -1, 2, 0.25 …
    let halves: [UInt16] = [0x3f00, 0xbf80, 0x4000, 0x3e80, 0x3f80, 0xbf00, 0xc000, 0x3f00]
    let weight = Weight(halves: .bfloat16, shape: [2, 4]) { raw in
      for (index, value) in halves.enumerated() {
        raw.storeBytes(of: value, toByteOffset: 2 * index, as: UInt16.self)
      }
    }
    check([[3, 4], [2]]) { Tensor.linear($0[0], weight: weight, bias: $0[1], activation: .silu) }
  }

  @Test func longAttention() {
    // More queries than one strip of the pullback.
    let shapes = [[1, 150, 1, 4], [1, 600, 1, 4], [1, 600, 1, 4]]
    var random = TorchRandom(seed: 3)
    let values = shapes.map { random.randn($0) }
    let leaves = values.map { $0.trainable() }
    let found = weighted(Tensor.attention(leaves[0], leaves[1], leaves[2])).gradients(of: leaves)
    // Along a direction: one difference instead of thousands.
    for which in 0..<3 {
      let direction = random.randn(shapes[which])
      func moved(_ by: Float) -> Double {
        var inputs = values
        inputs[which] = inputs[which].adding(direction, scaledBy: by)
        return Double(weighted(Tensor.attention(inputs[0], inputs[1], inputs[2])).array()[0])
      }
      let expected = (moved(1e-2) - moved(-1e-2)) / 2e-2
      let slope = Double((found[which] * direction).sum().array()[0])
      #expect(abs(slope - expected) < 2e-2 * max(1, abs(expected)), "input \(which): \(slope), \(expected)")
    }
  }

  @Test func frozenInputsGetNoGradient() {
    // Products and sums with a value that is not recorded need nothing of it.
    let (a, b) = (leaves([[2, 3]])[0].trainable(), Tensor(repeating: 2, shape: [1, 3]))
    let gradients = ((a * b - b + b) * b).sum().gradients(of: [a])
    #expect(gradients[0].array().allSatisfy { $0 == 4 })
  }

  @Test func checkpointGivesTheSameGradients() {
    let values = leaves([[2, 3, 4], [4, 4], [2, 3, 4], [5, 5]])
    let frozen = leaves([[4, 4]])[0]
    func loss(_ inputs: [Tensor], checkpointed: Bool) -> Tensor {
      let held = inputs[1]
      let block: @Sendable ([Tensor]) -> Tensor = { parts in
        Tensor.linear(Tensor.linear(parts[0], weight: held).geluTanh(), weight: frozen) * parts[1] + parts[0]
      }
      var x = inputs[0]
      for _ in 0..<3 { x = checkpointed ? Tensor.checkpoint([x, inputs[2]], block) : block([x, inputs[2]]) }
      return weighted(x)
    }
    let results = [false, true].map { checkpointed in
      let inputs = values.map { $0.trainable() }
      return loss(inputs, checkpointed: checkpointed).gradients(of: inputs).map { $0.array() }
    }
    #expect(results[0] == results[1])
    #expect(results[0][3].allSatisfy { $0 == 0 })
    // No tape, no record.
    #expect(!loss(values, checkpointed: true).isRecorded)
    // Only what the block holds is recorded: its input needs no gradient.
    var inputs = values
    inputs[1] = values[1].trainable()
    let held = loss(inputs, checkpointed: true).gradients(of: [inputs[1]])
    #expect(Difference(held[0], Tensor(results[0][1], shape: [4, 4])).relative < 1e-5)
  }

  @Test func recordsAreReleasedWhileGradientsAreTaken() {
    let x = leaves([[64, 1024]])[0].trainable()
    let size = 64 * 1024 * 4
    var y = x
    for _ in 0..<40 { y = y.silu() }
    let loss = y.sum()
    y = x
    let held = BufferPool.shared.usedBytes
    TensorMemory.resetPeak()
    let gradients = loss.gradients(of: [x])
    // Forty inputs are held; while they go the gradient takes the place of two.
    #expect(TensorMemory.peakBytes - held < 4 * size)
    #expect(BufferPool.shared.usedBytes < held - 30 * size)
    #expect(gradients[0].isFinite)
  }

  @Test func longRecordsDoNotExhaustTheStack() {
    var y = Tensor([1], shape: [1]).trainable()
    for _ in 0..<200_000 { y = y + 1 }
    #expect(y.isRecorded)
    y = Tensor([0], shape: [1])
    #expect(!y.isRecorded)
  }

  @Test func gradientOfUnusedLeafIsZero() {
    let (a, b) = (Tensor([1, 2], shape: [2]).trainable(), Tensor([3], shape: [1]).trainable())
    let gradients = (a * a).sum().gradients(of: [a, b])
    #expect(gradients[0].array() == [2, 4])
    #expect(gradients[1].array() == [0])
  }
}
