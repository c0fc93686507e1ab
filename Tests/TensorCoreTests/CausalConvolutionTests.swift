import TensorCore
import TestSupport
import Testing

/// Convolutions over frames and the norm beside them against naive twins in double precision.
@Suite struct CausalConvolutionTests {
  private struct Case: CustomStringConvertible {
    let inputs: Int
    let outputs: Int
    let height: Int
    let width: Int
    let frames: Int
    let extent: Int
    var description: String { "\(frames) x \(extent)² filters \(inputs)-\(outputs) on \(height)x\(width)" }
  }

  private static let cases = [
    Case(inputs: 3, outputs: 8, height: 9, width: 7, frames: 3, extent: 3),
    Case(inputs: 8, outputs: 3, height: 8, width: 5, frames: 3, extent: 3),
    Case(inputs: 6, outputs: 12, height: 20, width: 11, frames: 3, extent: 3),
    Case(inputs: 16, outputs: 32, height: 17, width: 13, frames: 3, extent: 3),
    Case(inputs: 24, outputs: 24, height: 33, width: 10, frames: 2, extent: 3),
    Case(inputs: 16, outputs: 8, height: 4, width: 6, frames: 3, extent: 1),
    Case(inputs: 5, outputs: 5, height: 1, width: 1, frames: 3, extent: 3),
    // Winograd's method: odd sizes, channels and outputs beside its vectors, filters transformed on the way.
    Case(inputs: 17, outputs: 19, height: 13, width: 22, frames: 3, extent: 3),
    Case(inputs: 40, outputs: 16, height: 4, width: 4, frames: 2, extent: 3),
    Case(inputs: 184, outputs: 170, height: 9, width: 7, frames: 3, extent: 3),
  ]

  @Test(arguments: cases) private func againstNaive(_ item: Case) {
    var random = TorchRandom(seed: UInt64(item.inputs * 100 + item.height))
    let x = random.randn([4, item.height, item.width, item.inputs])
    let weight = random.randn([item.outputs, item.inputs, item.frames, item.extent, item.extent])
    let bias = random.randn([item.outputs])
    let padding = ConvolutionPadding(item.extent / 2)
    let expected = naiveConvolution(x, weight, bias, padding)
    let kernel = CausalConvolutionKernel(weight: weight, bias: bias)
    #expect(kernel.frames == item.frames)
    let bound = kernel.usesWinograd ? Tolerance.winograd : Tolerance.operation
    let skip = random.randn([1, item.height, item.width, item.outputs])
    for frame in 0..<4 {
      let window = (max(0, frame - item.frames + 1)...frame).map { x.narrow(0, from: $0, length: 1) }
      let wanted = expected.narrow(0, from: frame, length: 1)
      let found = Difference(Tensor.causalConvolution(window, kernel: kernel, padding: padding), wanted)
      #expect(found.relative < bound, "\(item), frame \(frame): \(found)")
      let added = Difference(
        Tensor.causalConvolution(window, kernel: kernel, padding: padding, adding: skip), wanted + skip)
      #expect(added.relative < bound, "\(item), frame \(frame) with a skip: \(added)")
    }
  }

  @Test func paddingMayDifferBySide() {
    var random = TorchRandom(seed: 5)
    let x = random.randn([1, 10, 14, 8])
    let (weight, bias) = (random.randn([16, 8, 1, 3, 3]), random.randn([16]))
    let kernel = ConvolutionKernel(weight: weight.select(2, 0), bias: bias)
    for padding in [
      ConvolutionPadding(top: 0, bottom: 1, left: 0, right: 1),
      ConvolutionPadding(top: 2, bottom: 0, left: 1, right: 0),
    ] {
      let found = Tensor.convolution(x, kernel: kernel, stride: 2, padding: padding)
      let difference = Difference(found, naiveConvolution(x, weight, bias, stride: 2, padding))
      #expect(difference.relative < Tolerance.operation, "\(padding): \(difference)")
    }
  }

  /// A part of a weight (other strides than a whole tensor's) must be packed like a copy of it.
  @Test func filtersMayBeViews() {
    var random = TorchRandom(seed: 6)
    let x = random.randn([1, 6, 6, 8])
    let weight = random.randn([16, 8, 3, 3, 3])
    let part = weight.narrow(0, from: 8, length: 8)
    let copy = Tensor(part.array(), shape: part.shape)
    let results = [part, copy].map {
      Tensor.causalConvolution(
        [x, x, x], kernel: CausalConvolutionKernel(weight: $0, bias: nil), padding: ConvolutionPadding(1)
      ).array()
    }
    #expect(results[0] == results[1])
  }

  @Test(arguments: [1, 3, 12, 96, 400]) func lengthNorm(_ channels: Int) {
    var random = TorchRandom(seed: UInt64(channels))
    let (x, weight) = (random.randn([2, 3, 5, channels]), random.randn([channels]))
    let (values, factors) = (x.array(), weight.array())
    let expected = values.indices.map { index -> Double in
      let first = index / channels * channels
      let length = values[first..<first + channels].reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
      return Double(values[index]) / length * Double(channels).squareRoot() * Double(factors[index - first])
    }
    let plain = Difference(
      Tensor.lengthNorm(x, weight: weight), Tensor(expected.map(Float.init), shape: x.shape))
    #expect(plain.relative < Tolerance.operation, "\(plain)")
    let silu = Difference(
      Tensor.lengthNorm(x, weight: weight, activation: .silu),
      Tensor(expected.map(Float.init), shape: x.shape).silu())
    #expect(silu.relative < Tolerance.operation, "\(silu)")
    // Pixels of zeros stay zeros.
    #expect(
      Tensor.lengthNorm(Tensor.zeros([1, 1, 1, channels]), weight: weight).array().allSatisfy { $0 == 0 })
  }

  @Test func clamped() {
    let x = Tensor([-2, -1, -0.5, 0, 0.5, 1, 2, .infinity, .nan], shape: [9])
    let y = x.clamped(-1, 1).array()
    #expect(Array(y.dropLast()) == [-1, -1, -0.5, 0, 0.5, 1, 1, 1] && y[8].isNaN)
  }
}
