import DiffusionPipelines
import TensorCore
import TestSupport
import Testing

/// Same bytes for any number of threads: work is cut by shape alone.
@Suite(.serialized) struct DeterminismTests {
  @Test func operationsDoNotDependOnTheThreadCount() {
    var random = TorchRandom(seed: 1)
    let x = random.randn([1, 300, 96])
    let weight = random.randn([200, 96])
    let half = Weight(weight).converted(to: .bfloat16)
    let small = Weight(weight).converted(to: .int8)
    let (long, deep) = (random.randn([70, 4000]), random.randn([900, 4000]))
    let kernel = ConvolutionKernel(weight: random.randn([16, 8, 3, 3]), bias: nil)
    let picture = random.randn([2, 45, 37, 8])
    let heads = random.randn([1, 150, 4, 24])
    func all() -> [[Float]] {
      [
        Tensor.linear(x, weight: weight, activation: .geluTanh).array(),
        Tensor.linear(x, weight: half, activation: .silu).array(),
        Tensor.linear(x, weight: small, activation: .geluTanh).array(),
        Tensor.linear(long, weight: deep).array(),
        Tensor.layerNorm(x, eps: 1e-6).array(),
        Tensor.convolution(picture, kernel: kernel, padding: 1, activation: .relu).array(),
        Tensor.attention(heads, heads, heads).array(),
        Tensor.attention(heads.narrow(1, from: 0, length: 9), heads, heads).array(),
        Tensor.rmsNormRotary(x, weight: Tensor(repeating: 2, shape: [96]), eps: 1e-6, heads: 4).array(),
        Tensor.groupNorm(
          picture, groups: 4, weight: Tensor(repeating: 1, shape: [8]), bias: Tensor.zeros([8]), eps: 1e-5
        ).array(),
      ]
    }
    let parallel = all()
    // Inside a parallel loop everything runs on the calling thread alone.
    var serial: [[Float]] = []
    parallelFor(2) { index in if index == 0 { serial = all() } }
    #expect(parallel == serial)
  }
}
