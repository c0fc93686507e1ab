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

  @Test func gradientOfUnusedLeafIsZero() {
    let (a, b) = (Tensor([1, 2], shape: [2]).trainable(), Tensor([3], shape: [1]).trainable())
    let gradients = (a * a).sum().gradients(of: [a, b])
    #expect(gradients[0].array() == [2, 4])
    #expect(gradients[1].array() == [0])
  }
}
