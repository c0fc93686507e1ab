import TensorCore
import TestSupport
import Testing

/// Convolutions by Winograd's method against naive twins in double precision. Its rounding error is about six
/// times that of the direct sum.
@Suite struct WinogradTests {
  private struct Case: CustomStringConvertible {
    let inputs: Int
    let outputs: Int
    let height: Int
    let width: Int
    var pictures = 1
    var padding = ConvolutionPadding(1)
    var description: String { "\(pictures) x \(inputs)-\(outputs) on \(height)x\(width), \(padding)" }
  }

  private static let cases = [
    Case(inputs: 16, outputs: 16, height: 4, width: 4),
    Case(inputs: 64, outputs: 64, height: 16, width: 16, pictures: 3),
    Case(inputs: 17, outputs: 33, height: 23, width: 5, pictures: 2),
    Case(inputs: 20, outputs: 31, height: 7, width: 41),
    Case(inputs: 24, outputs: 40, height: 9, width: 10, padding: ConvolutionPadding(0)),
    Case(
      inputs: 31, outputs: 18, height: 11, width: 9,
      padding: ConvolutionPadding(top: 2, bottom: 0, left: 0, right: 1)),
    // Filters that are transformed for each block of tiles, and several of those.
    Case(inputs: 320, outputs: 304, height: 26, width: 29),
  ]

  @Test(arguments: cases) private func againstNaive(_ item: Case) {
    var random = TorchRandom(seed: UInt64(item.inputs * 100 + item.height))
    let x = random.randn([item.pictures, item.height, item.width, item.inputs])
    let (weight, bias) = (
      random.randn([item.outputs, item.inputs, 1, 3, 3]), random.randn([item.outputs])
    )
    let kernel = ConvolutionKernel(weight: weight.select(2, 0), bias: bias)
    #expect(kernel.usesWinograd)
    let expected = naiveConvolution(x, weight, bias, item.padding)
    let found = Tensor.convolution(x, kernel: kernel, padding: item.padding)
    #expect(
      Difference(found, expected).relative < Tolerance.winograd, "\(item): \(Difference(found, expected))")
    let skip = random.randn(expected.shape)
    let fused = Difference(
      Tensor.convolution(x, kernel: kernel, padding: item.padding, activation: .relu, adding: skip),
      (expected + skip).relu())
    #expect(fused.relative < Tolerance.winograd, "\(item), fused: \(fused)")
  }

  /// Pixels that stand for 2 by 2 without being repeated.
  @Test(arguments: [(8, 8, 64, 64), (5, 7, 17, 20), (2, 3, 40, 16), (6, 3, 8, 3), (1, 1, 16, 16)])
  func upsampled(_ height: Int, _ width: Int, _ inputs: Int, _ outputs: Int) {
    var random = TorchRandom(seed: UInt64(inputs))
    let x = random.randn([2, height, width, inputs])
    let (weight, bias) = (random.randn([outputs, inputs, 1, 3, 3]), random.randn([outputs]))
    let kernel = ConvolutionKernel(weight: weight.select(2, 0), bias: bias)
    let found = Tensor.upsampledConvolution(x, kernel: kernel)
    let expected = naiveConvolution(x.upsampledNearest(), weight, bias, ConvolutionPadding(1))
    #expect(Difference(found, expected).relative < Tolerance.winograd, "\(Difference(found, expected))")
  }

  /// A kernel made for a stride of 1 also serves others, and pictures that are too small for tiles.
  @Test func theDirectMethodRemains() {
    var random = TorchRandom(seed: 3)
    let (weight, bias) = (random.randn([24, 20, 1, 3, 3]), random.randn([24]))
    let kernel = ConvolutionKernel(weight: weight.select(2, 0), bias: bias)
    for (height, stride) in [(11, 2), (2, 1)] {
      let x = random.randn([1, height, height, 20])
      let found = Tensor.convolution(x, kernel: kernel, stride: stride, padding: 1)
      let expected = naiveConvolution(x, weight, bias, stride: stride, ConvolutionPadding(1))
      #expect(Difference(found, expected).relative < Tolerance.operation)
    }
  }

  @Test(arguments: SIMDLevel.allCases) func everyInstructionSet(_ level: SIMDLevel) {
    var random = TorchRandom(seed: 4)
    let x = random.randn([1, 14, 15, 27])
    let (weight, bias) = (random.randn([35, 27, 1, 3, 3]), random.randn([35]))
    let expected = naiveConvolution(x, weight, bias, ConvolutionPadding(1))
    let best = SIMDLevel.current
    SIMDLevel.limit(level)
    defer { SIMDLevel.limit(best) }
    let kernel = ConvolutionKernel(weight: weight.select(2, 0), bias: bias)
    let found = Difference(Tensor.convolution(x, kernel: kernel, padding: 1), expected)
    #expect(found.relative < Tolerance.winograd, "\(level): \(found)")
  }

  @Test func notANumberStaysInItsNeighbourhood() {
    var random = TorchRandom(seed: 5)
    var values = random.randn([1, 32, 32, 16]).array()
    values[0] = .nan
    let kernel = ConvolutionKernel(weight: random.randn([16, 16, 3, 3]), bias: nil)
    let y = Tensor.convolution(Tensor(values, shape: [1, 32, 32, 16]), kernel: kernel, padding: 1)
    #expect(y.array()[0].isNaN)
    #expect(y.narrow(1, from: 4, length: 28).isFinite && y.narrow(2, from: 4, length: 28).isFinite)
  }
}
