import DiffusionLayers
import TensorCore
import TestSupport
import Testing

/// Single operations against torch, and their gradients where they have any.
@Suite struct OperationTests {
  let golden: SafetensorsFile

  init() throws { golden = try Fixture.safetensors("ops") }

  private func input(_ name: String, _ tensor: String) throws -> Tensor { try golden["\(name).in.\(tensor)"] }

  /// Compares `y` with the golden and, with leaves, the gradients of `sum(y * dy)`.
  private func check(_ name: String, _ y: Tensor, _ leaves: [(String, Tensor)] = []) throws {
    let forward = Difference(y.detached(), try golden["\(name).out.y"])
    #expect(forward.relative < Tolerance.operation, "\(name): \(forward)")
    guard !leaves.isEmpty else { return }
    let gradients = (y * (try input(name, "dy"))).sum().gradients(of: leaves.map(\.1))
    for ((leaf, _), gradient) in zip(leaves, gradients) {
      let difference = Difference(gradient, try golden["\(name).out.d\(leaf)"])
      #expect(difference.relative < 2e-5, "\(name) d\(leaf): \(difference)")
    }
  }

  @Test func linear() throws {
    let x = try input("linear", "x").trainable()
    let weight = try input("linear", "weight").trainable()
    let bias = try input("linear", "bias").trainable()
    try check(
      "linear", Tensor.linear(x, weight: weight, bias: bias), [("x", x), ("weight", weight), ("bias", bias)])
  }

  @Test func layerNorm() throws {
    let x = try input("layer_norm", "x").trainable()
    try check("layer_norm", Tensor.layerNorm(x, eps: 1e-6), [("x", x)])
    let (z, weight, bias) = (
      try input("layer_norm_affine", "x").trainable(), try input("layer_norm_affine", "weight").trainable(),
      try input("layer_norm_affine", "bias").trainable()
    )
    try check(
      "layer_norm_affine", Tensor.layerNorm(z, weight: weight, bias: bias, eps: 1e-6),
      [("x", z), ("weight", weight), ("bias", bias)])
  }

  @Test func rmsNorm() throws {
    let x = try input("rms_norm", "x").trainable()
    let weight = try input("rms_norm", "weight").trainable()
    try check("rms_norm", Tensor.rmsNorm(x, weight: weight, eps: 1e-6), [("x", x), ("weight", weight)])
  }

  @Test(arguments: ["attention", "cross_attention"]) func attention(_ name: String) throws {
    let (q, k, v) = (
      try input(name, "q").trainable(), try input(name, "k").trainable(), try input(name, "v").trainable()
    )
    try check(name, Tensor.attention(q, k, v), [("q", q), ("k", k), ("v", v)])
  }

  /// A bias per head and distance is the same as a whole matrix of it for each head, with its gradients.
  @Test func attentionWithRelativeBias() throws {
    let (q, k, v) = (
      try input("cross_attention", "q"), try input("cross_attention", "k"), try input("cross_attention", "v")
    )
    let (queries, keys, heads) = (q.shape[1], k.shape[1], q.shape[2])
    let distances = queries + keys - 1
    let values = (0..<heads * distances).map { Float($0 * 7 % 13) / 5 - 1 }
    let table = Tensor(values, shape: [heads, distances])
    let leaves = [q, k, v].map { $0.trainable() }
    let y = Tensor.attention(leaves[0], leaves[1], leaves[2], relativeBias: table, scale: 0.4)
    let gradients = (y * y).sum().gradients(of: leaves)
    for head in 0..<heads {
      let bias = Tensor(
        (0..<queries).flatMap { row in (0..<keys).map { values[head * distances + $0 - row + queries - 1] } },
        shape: [queries, keys])
      func part(_ x: Tensor) -> Tensor { x.narrow(2, from: head, length: 1).contiguous() }
      // 1 / √16 is the scale without one.
      let single = [part(q) * 1.6, part(k), part(v)].map { $0.trainable() }
      let expected = Tensor.attention(single[0], single[1], single[2], bias: bias)
      #expect(Difference(part(y.detached()), expected).relative < Tolerance.operation)
      let slopes = (expected * expected).sum().gradients(of: single)
      #expect(Difference(part(gradients[0]), slopes[0] * 1.6).relative < 1e-5)
      #expect(Difference(part(gradients[1]), slopes[1]).relative < 1e-5)
      #expect(Difference(part(gradients[2]), slopes[2]).relative < 1e-5)
    }
  }

  @Test func activations() throws {
    try check("gelu_tanh", try input("gelu_tanh", "x").geluTanh())
    try check("silu", try input("silu", "x").silu())
  }

  @Test(arguments: [("conv2d_stride1", 1, 1), ("conv2d_stride2", 2, 1), ("conv2d_1x1", 1, 0)])
  func convolution(_ name: String, stride: Int, padding: Int) throws {
    let bias = golden.entries["\(name).in.bias"] == nil ? nil : try input(name, "bias")
    let kernel = ConvolutionKernel(weight: try input(name, "weight"), bias: bias)
    let x = try input(name, "x").permuted([0, 2, 3, 1])
    let y = Tensor.convolution(x, kernel: kernel, stride: stride, padding: padding)
    try check(name, y.permuted([0, 3, 1, 2]))
    let skip = Tensor(repeating: 0.25, shape: y.shape)
    let fused = Tensor.convolution(
      x, kernel: kernel, stride: stride, padding: padding, activation: .relu, adding: skip)
    #expect(Difference(fused, (y + skip).relu()).relative < Tolerance.operation)
  }

  @Test func groupNorm() throws {
    let x = try input("group_norm", "x").permuted([0, 2, 3, 1])
    let y = Tensor.groupNorm(
      x, groups: 4, weight: try input("group_norm", "weight"), bias: try input("group_norm", "bias"),
      eps: 1e-5)
    try check("group_norm", y.permuted([0, 3, 1, 2]))
  }

  @Test func upsampling() throws {
    let x = try input("upsample_nearest", "x").permuted([0, 2, 3, 1])
    try check("upsample_nearest", x.upsampledNearest().permuted([0, 3, 1, 2]))
  }

  @Test func rotary() throws {
    let x = try input("rope", "x")
    let positions = RotaryPositions(frames: [0, 1, 2, 3], rows: [0, 1, 2], columns: [0, 1, 2, 3, 4])
    let table = RotaryTable(headDim: 16, positions: positions)
    try check("rope", table(x))
  }

  /// Norm, split into heads and rotation in one pass, against the three of them.
  @Test(arguments: [(1, 2, 4), (3, 5, 40), (2, 12, 128)]) func normAndRotaryInOne(
    batch: Int, heads: Int, size: Int
  ) {
    let length = 24
    var random = TorchRandom(seed: 4)
    let (x, weight) = (random.randn([batch, length, heads * size]), random.randn([heads * size]))
    let positions = RotaryPositions(frames: [0, 1], rows: [0, 1.5, 3], columns: [0, 1, 2, 3])
    let table = RotaryTable(headDim: size, positions: positions)
    let split = Tensor.rmsNorm(x, weight: weight, eps: 1e-6).reshaped([batch, length, heads, size])
    let fused = Tensor.rmsNormRotary(
      x, weight: weight, eps: 1e-6, heads: heads, cosine: table.cosine, sine: table.sine)
    #expect(fused.array() == table(split).array())
    let plain = Tensor.rmsNormRotary(x, weight: weight, eps: 1e-6, heads: heads)
    #expect(plain.array() == split.array())
    let memory = RotaryMemory(headDim: size)
    #expect(memory(positions).sine.array() == table.sine.array())
    #expect(memory(positions).sine.array() == table.sine.array())
  }
}
