import TensorCore
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// Operations of networks over pictures against naive twins in double precision, at every level of this CPU.
@Suite(.serialized) struct PictureOperationTests {
  private func random(_ shape: [Int], _ seed: UInt64) -> Tensor {
    var random = TorchRandom(seed: seed)
    return random.randn(shape)
  }

  /// Group norm of `[N, H, W, C]` with an offset for every `N / M` pictures.
  private func naive(
    _ x: Tensor, _ groups: Int, _ weight: Tensor, _ bias: Tensor, eps: Double, silu: Bool, _ offset: Tensor?
  ) -> Tensor {
    let (pictures, pixels, channels) = (x.shape[0], x.shape[1] * x.shape[2], x.shape[3])
    let (w, b, shift) = (weight.array(), bias.array(), offset?.array())
    var values = x.array().map(Double.init)
    let perRow = pictures / (offset?.shape[0] ?? 1)
    for index in values.indices {
      values[index] +=
        shift.map { Double($0[index / (pixels * channels) / perRow * channels + index % channels]) } ?? 0
    }
    let size = channels / groups
    var result = [Float](repeating: 0, count: values.count)
    for picture in 0..<pictures {
      for group in 0..<groups {
        let places = (0..<pixels).flatMap { pixel in
          (0..<size).map { (picture * pixels + pixel) * channels + group * size + $0 }
        }
        let mean = places.reduce(0) { $0 + values[$1] } / Double(places.count)
        let variance = places.reduce(0) { $0 + pow(values[$1] - mean, 2) } / Double(places.count)
        for place in places {
          let y =
            (values[place] - mean) / (variance + eps).squareRoot() * Double(w[place % channels])
            + Double(b[place % channels])
          result[place] = Float(silu ? y / (1 + exp(-y)) : y)
        }
      }
    }
    return Tensor(result, shape: x.shape)
  }

  @Test(arguments: [
    ([1, 1, 1, 2], 1), ([2, 3, 5, 8], 4), ([3, 4, 4, 48], 8), ([2, 30, 41, 40], 4), ([4, 2, 3, 320], 32),
  ])
  func groupNorm(shape: [Int], groups: Int) {
    let (x, channels) = (random(shape, 1) + 3, shape[3])
    let (weight, bias) = (random([channels], 2) + 1, random([channels], 3))
    for rows in [0, 1, shape[0]] {
      let offset: Tensor? = rows == 0 ? nil : random([rows, channels], 4)
      for activation in [Activation.identity, .silu] {
        let expected = naive(x, groups, weight, bias, eps: 1e-5, silu: activation == .silu, offset)
        atEveryLevel { level in
          let found = Tensor.groupNorm(
            x, groups: groups, weight: weight, bias: bias, eps: 1e-5, activation: activation, adding: offset)
          let difference = Difference(found, expected)
          #expect(difference.relative <= Tolerance.operation, "\(level) \(rows) \(difference)")
        }
      }
    }
  }

  /// A large mean does not drown the variance.
  @Test func groupNormFarFromZero() {
    let x = random([1, 20, 20, 32], 5) * 0.01 + 100
    let (weight, bias) = (Tensor(repeating: 1, shape: [32]), Tensor.zeros([32]))
    let found = Tensor.groupNorm(x, groups: 4, weight: weight, bias: bias, eps: 1e-5)
    let expected = naive(x, 4, weight, bias, eps: 1e-5, silu: false, nil)
    // What is left is the rounding of the mean itself: 4e-6 of deviations of 0.01.
    #expect(Difference(found, expected).relative <= 5e-4)
  }

  @Test func geglu() {
    let rows = 5
    for width in [1, 7, 16, 19, 64] {
      let x = random([rows, 2 * width], 6) * 3
      let values = x.array().map(Double.init)
      let expected = (0..<rows * width).map { index in
        let at = index / width * 2 * width + index % width
        let gate = values[at + width]
        return Float(values[at] * gate * 0.5 * erfc(-gate / 2.0.squareRoot()))
      }
      atEveryLevel { level in
        let difference = Difference(x.geglu(), Tensor(expected, shape: [rows, width]))
        #expect(difference.relative <= Tolerance.operation, "\(level) \(difference)")
      }
    }
    // Far out the gate is open or shut.
    let far: [Float] = [1, 1, 1, 1, 40, -40, 9, -9]
    let gated = Tensor(far, shape: [1, 8]).geglu().array()
    #expect(gated[0] == 40 && abs(gated[1]) < 1e-30 && abs(gated[2] - 9) < 1e-6 && abs(gated[3]) < 1e-11)
  }

  /// In pieces and whole it is the same.
  @Test(arguments: [1, 1535, 1536, 3100]) func gatedFeedForward(rows: Int) {
    let (x, residual) = (random([1, rows, 6], 30), random([1, rows, 6], 31))
    let (inner, outer) = (Weight(random([32, 6], 32)), Weight(random([6, 16], 33)))
    let (innerBias, outerBias) = (random([32], 34), random([6], 35))
    let found = Tensor.gatedFeedForward(
      x, projection: (inner, innerBias), output: (outer, outerBias), residual: residual)
    let gated = Tensor.linear(x, weight: inner, bias: innerBias).geglu()
    let expected = Tensor.linear(gated, weight: outer, bias: outerBias, residual: residual)
    let difference = Difference(found, expected)
    #expect(difference.relative <= Tolerance.operation, "\(difference)")
  }

  @Test(arguments: [[1, 1, 1, 1, 4], [2, 5, 3, 2, 8], [1, 16, 9, 8, 5], [2, 33, 2, 1, 40]])
  func frameAttention(shape: [Int]) {
    let (q, k, v) = (random(shape, 7), random(shape, 8), random(shape, 9))
    let byPlace = { (x: Tensor) in
      x.permuted([0, 2, 1, 3, 4]).reshaped([shape[0] * shape[2], shape[1], shape[3], shape[4]])
    }
    let expected = Tensor.attention(byPlace(q), byPlace(k), byPlace(v))
      .reshaped([shape[0], shape[2], shape[1], shape[3], shape[4]]).permuted([0, 2, 1, 3, 4]).contiguous()
    #expect(Tensor.frameAttention(q, k, v).array() == expected.array())
  }

  @Test func layerNormWithPositions() {
    let (x, weight, rows) = (random([2, 3, 4, 21], 10), random([21], 11), random([3, 21], 12))
    let expected = Tensor.layerNorm(x, weight: weight, eps: 1e-5) + rows.reshaped([1, 3, 1, 21])
    let found = Tensor.layerNorm(x, weight: weight, biases: rows, eps: 1e-5)
    #expect(Difference(found, expected).relative <= Tolerance.operation)
  }

  @Test func resizedNearest() {
    let x = random([2, 3, 4, 2], 13)
    let values = x.array()
    for (height, width) in [(6, 8), (5, 7), (3, 4), (1, 9)] {
      let found = x.resizedNearest(height: height, width: width)
      #expect(found.shape == [2, height, width, 2])
      let expected = (0..<2).flatMap { picture in
        (0..<height).flatMap { row in
          (0..<width).flatMap { column in
            (0..<2).map { values[((picture * 3 + row * 3 / height) * 4 + column * 4 / width) * 2 + $0] }
          }
        }
      }
      #expect(found.array() == expected)
    }
  }

  @Test func concatenatedChannels() {
    let (a, b) = (random([3, 50, 40, 24], 14), random([3, 50, 40, 5], 15))
    let joined = Tensor.concatenated([a, b], axis: 3)
    #expect(joined.narrow(3, from: 0, length: 24).array() == a.array())
    #expect(joined.narrow(3, from: 24, length: 5).array() == b.array())
  }

  /// Pictures of one batch have the bytes that they have alone, wherever the work is cut.
  @Test func convolutionOfManySmallPictures() {
    for (inputs, outputs, size) in [(16, 48, 4), (24, 16, 6), (40, 80, 8)] {
      let kernel = ConvolutionKernel(
        weight: random([outputs, inputs, 3, 3], 16), bias: random([outputs], 17))
      let (x, skip) = (random([9, size, size, inputs], 18), random([9, size, size, outputs], 19))
      let batch = Tensor.convolution(x, kernel: kernel, padding: 1, adding: skip)
      for picture in 0..<9 {
        let alone = Tensor.convolution(
          x.narrow(0, from: picture, length: 1), kernel: kernel, padding: 1,
          adding: skip.narrow(0, from: picture, length: 1))
        #expect(batch.narrow(0, from: picture, length: 1).array() == alone.array())
      }
    }
  }

  @Test func unpackedFilters() {
    for (shape, stride) in [([16, 16, 3, 3], 1), ([5, 7, 3, 3], 2), ([6, 4, 2, 3], 1)] {
      let weight = random(shape, 20)
      #expect(ConvolutionKernel(weight: weight, bias: nil, stride: stride).weight().array() == weight.array())
    }
  }

  /// Large filters that come in two bytes a number stay so and give the bytes of widened ones.
  @Test(arguments: [DType.float16, .bfloat16]) func largeHalfWidthFilters(format: DType) {
    let shape = [328, 320, 3, 3]
    var bits: [UInt16] = []
    let numbers = random(shape, 21).array()
    for number in numbers {
      bits.append(format == .float16 ? Float16(number).bitPattern : UInt16(number.bitPattern >> 16))
    }
    let weight = Weight(halves: format, shape: shape) { raw in
      bits.withUnsafeBytes { raw.copyMemory(from: $0) }
    }
    let kernel = ConvolutionKernel(weight: weight, bias: random([328], 22))
    #expect(kernel.weight().array() == weight.floats().array())
    let wide = ConvolutionKernel(weight: weight.floats(), bias: random([328], 22))
    let x = random([3, 5, 8, 320], 23)
    #expect(
      Tensor.convolution(x, kernel: kernel, padding: 1).array()
        == Tensor.convolution(x, kernel: wide, padding: 1).array())
  }

  // MARK: - gradients

  /// The sum of the elements times fixed numbers, so that no gradient vanishes by symmetry.
  private func scalar(_ y: Tensor) -> Tensor { (y * random(y.shape, 40)).sum() }

  @Test(arguments: [
    ([3, 3], 1, ConvolutionPadding(1)), ([3, 3], 2, ConvolutionPadding(1)),
    ([1, 2], 1, ConvolutionPadding(0)),
    ([3, 3], 2, ConvolutionPadding(top: 0, bottom: 1, left: 0, right: 1)),
  ])
  func convolutionGradient(filters: [Int], stride: Int, padding: ConvolutionPadding) {
    let kernel = ConvolutionKernel(
      weight: random([4, 3] + filters, 41), bias: random([4], 42), stride: stride)
    let x = random([2, 5, 6, 3], 43)
    let shape = Tensor.convolution(x, kernel: kernel, stride: stride, padding: padding).shape
    let found = GradientCheck.differences(of: [x, random(shape, 44)]) { leaves in
      scalar(
        Tensor.convolution(leaves[0], kernel: kernel, stride: stride, padding: padding, adding: leaves[1]))
    }
    for difference in found { #expect(difference.relative <= 1e-3, "\(difference)") }
  }

  @Test func upsampledConvolutionGradient() {
    let kernel = ConvolutionKernel(weight: random([16, 16, 3, 3], 45), bias: nil)
    let found = GradientCheck.differences(of: [random([1, 2, 3, 16], 46)]) { leaves in
      scalar(Tensor.upsampledConvolution(leaves[0], kernel: kernel))
    }
    #expect(found[0].relative <= 2e-3, "\(found[0])")
  }

  @Test func resizedNearestGradient() {
    for (height, width) in [(6, 8), (5, 7), (2, 9)] {
      let found = GradientCheck.differences(of: [random([2, 3, 4, 2], 47)]) { leaves in
        scalar(leaves[0].resizedNearest(height: height, width: width))
      }
      #expect(found[0].relative <= 1e-3, "\(height)x\(width) \(found[0])")
    }
  }

  @Test func gegluGradient() {
    atEveryLevel { level in
      let found = GradientCheck.differences(of: [random([3, 38], 48)], step: 3e-3) { scalar($0[0].geglu()) }
      #expect(found[0].relative <= 3e-3, "\(level) \(found[0])")
    }
  }

  @Test(arguments: [1, 2, 4], [Activation.identity, .silu])
  func groupNormGradient(rows: Int, activation: Activation) {
    let (weight, bias) = (random([20], 49) + 1, random([20], 50))
    atEveryLevel { level in
      let found = GradientCheck.differences(of: [random([4, 3, 2, 20], 51), random([rows, 20], 52)]) {
        leaves in
        // The input is used twice, so that its gradient is added to one that is there.
        scalar(
          Tensor.groupNorm(
            leaves[0], groups: 5, weight: weight, bias: bias, eps: 1e-3, activation: activation,
            adding: leaves[1]) + leaves[0])
      }
      for difference in found { #expect(difference.relative <= 4e-3, "\(level) \(difference)") }
    }
  }

  @Test func frameAttentionGradient() {
    let shape = [2, 3, 2, 2, 4]
    let found = GradientCheck.differences(of: [random(shape, 53), random(shape, 54), random(shape, 55)]) {
      leaves in
      scalar(Tensor.frameAttention(leaves[0], leaves[1], leaves[2]))
    }
    for difference in found { #expect(difference.relative <= 4e-3, "\(difference)") }
  }
}
