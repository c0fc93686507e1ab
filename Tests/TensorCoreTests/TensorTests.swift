import TensorCore
import TestSupport
import Testing

/// Views, copies, broadcasting and the buffer pool.
@Suite struct TensorTests {
  private let counted = Tensor((0..<24).map(Float.init), shape: [2, 3, 4])

  @Test func viewsCopyNothingAndReadRight() {
    let turned = counted.permuted([2, 0, 1])
    #expect(turned.shape == [4, 2, 3])
    #expect(turned.array() == (0..<4).flatMap { i in (0..<6).map { Float($0 * 4 + i) } })
    #expect(
      counted.narrow(1, from: 1, length: 2).array()
        == Array((4..<12).map(Float.init) + (16..<24).map(Float.init)))
    #expect(counted.select(2, 3).array() == [3, 7, 11, 15, 19, 23])
    #expect(turned.reshaped([2, -1]).array() == turned.array())
    #expect(Tensor([5, 6], shape: [2, 1]).expanded([2, 3]).array() == [5, 5, 5, 6, 6, 6])
  }

  @Test func concatenation() {
    let parts = [counted.narrow(1, from: 0, length: 1), counted.narrow(1, from: 1, length: 2)]
    #expect(Tensor.concatenated(parts, axis: 1).array() == counted.array())
  }

  @Test func broadcasting() {
    let sum = Tensor([1, 2], shape: [2, 1]) + Tensor([10, 20, 30], shape: [3])
    #expect(sum.shape == [2, 3])
    #expect(sum.array() == [11, 21, 31, 12, 22, 32])
  }

  @Test func permutedCopiesOfAnyShape() {
    // Against an index-by-index twin, with extents that do not fill a task and some that do.
    for shape in [[1, 1, 1, 1], [3, 1, 5, 2], [2, 40, 30, 17], [7, 64, 2, 33]] {
      let x = Tensor((0..<shape.reduce(1, *)).map(Float.init), shape: shape)
      let values = x.array()
      let order = [2, 0, 3, 1]
      let turned = x.permuted(order).array()
      var at = 0
      var wrong = 0
      for a in 0..<shape[2] {
        for b in 0..<shape[0] {
          for c in 0..<shape[3] {
            for d in 0..<shape[1] {
              if turned[at] != values[((b * shape[1] + d) * shape[2] + a) * shape[3] + c] { wrong += 1 }
              at += 1
            }
          }
        }
      }
      #expect(wrong == 0, "\(shape)")
    }
  }

  @Test func buffersComeBack() {
    let pool = BufferPool()
    let first = pool.take(count: 1000)
    #expect(pool.usedBytes >= 4000)
    pool.give(first, count: 1000)
    #expect(pool.usedBytes == 0 && pool.peakBytes >= 4000)
    let again = pool.take(count: 1000)
    #expect(again == first, "a buffer of the same size is used again")
    pool.give(again, count: 1000)
    // A tensor's buffer counts while the tensor lives.
    let held = (0..<1000).map { _ in Tensor.zeros([1024]) }
    #expect(BufferPool.shared.usedBytes >= held.count * 4096)
  }

  @Test func edgePadding() {
    let picture = Tensor((0..<6).map(Float.init), shape: [1, 2, 3, 1])
    #expect(picture.paddedByEdge(height: 3, width: 4).array() == [0, 1, 2, 2, 3, 4, 5, 5, 3, 4, 5, 5])
  }
}
