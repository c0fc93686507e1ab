import TensorCore
import TestSupport
import Testing

/// The forecast of what packed filters take, against what they take.
@Suite(.serialized) struct ConvolutionMemoryTests {
  @Test(arguments: [
    ([320, 320, 3, 3], DType.float16, 1), ([320, 320, 3, 3], .float32, 1), ([96, 64, 3, 3], .bfloat16, 1),
    ([192, 160, 3, 3], .float16, 2), ([64, 16, 1, 1], .float32, 1), ([320, 4, 3, 3], .float16, 1),
  ])
  func packedFilters(shape: [Int], format: DType, stride: Int) throws {
    let weight = Weight(Tensor.zeros(shape))
    let stored =
      format == .float32
      ? weight
      : Weight(halves: format, shape: shape) { raw in _ = raw.initializeMemory(as: UInt8.self, repeating: 0) }
    let forecast = ConvolutionKernel.bytes(shape, as: format, stride: stride)
    let before = BufferPool.shared.usedBytes
    let kernel = ConvolutionKernel(weight: stored, bias: nil, stride: stride)
    let taken = BufferPool.shared.usedBytes - before
    // The pool's classes exceed a request by at most a quarter; the bias stands beside the filters.
    #expect(
      taken >= forecast && taken <= forecast / 4 * 5 + 8192, "\(shape): \(taken), forecast \(forecast)")
    withExtendedLifetime((kernel, stored)) {}
  }
}
