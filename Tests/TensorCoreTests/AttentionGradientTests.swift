import TensorCore
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// Gradients of attention against a naive twin in double precision, at every level of this CPU.
@Suite(.serialized) struct AttentionGradientTests {
  static let sizes = [
    AttentionSize(b: 1, q: 1, k: 1, h: 1, d: 1), AttentionSize(b: 2, q: 7, k: 5, h: 3, d: 4),
    AttentionSize(b: 1, q: 48, k: 16, h: 2, d: 40), AttentionSize(b: 1, q: 49, k: 255, h: 2, d: 32),
    AttentionSize(b: 2, q: 101, k: 65, h: 1, d: 17), AttentionSize(b: 1, q: 97, k: 300, h: 2, d: 128),
    AttentionSize(b: 1, q: 150, k: 8, h: 4, d: 32),
  ]

  /// dQ, dK, dV and the sums over a key's column. `added` is what the mask adds for (query, key).
  private func naive(
    _ s: AttentionSize, _ q: Tensor, _ k: Tensor, _ v: Tensor, _ upstream: Tensor, added: (Int, Int) -> Double
  ) -> [Tensor] {
    let (qs, ks, vs) = (q.array().map(Double.init), k.array().map(Double.init), v.array().map(Double.init))
    let dy = upstream.array().map(Double.init)
    let scale = 1 / Double(s.d).squareRoot()
    var (dq, dk, dv) = (qs.map { _ in 0.0 }, ks.map { _ in 0.0 }, vs.map { _ in 0.0 })
    var columns = [Double](repeating: 0, count: s.k)
    for b in 0..<s.b {
      for h in 0..<s.h {
        for i in 0..<s.q {
          let qAt = ((b * s.q + i) * s.h + h) * s.d
          let at = { (j: Int) in ((b * s.k + j) * s.h + h) * s.d }
          func dot(_ a: [Double], _ x: Int, _ b: [Double], _ y: Int) -> Double {
            (0..<s.d).reduce(0.0) { $0 + a[x + $1] * b[y + $1] }
          }
          let scores = (0..<s.k).map { dot(qs, qAt, ks, at($0)) * scale + added(i, $0) }
          let top = scores.max() ?? 0
          if top == -.infinity { continue }
          let total = scores.reduce(0.0) { $0 + exp($1 - top) }
          let weights = scores.map { exp($0 - top) / total }
          let slopes = (0..<s.k).map { dot(dy, qAt, vs, at($0)) }
          let mean = zip(weights, slopes).reduce(0.0) { $0 + $1.0 * $1.1 }
          for j in 0..<s.k {
            let slope = weights[j] * (slopes[j] - mean)
            columns[j] += slope
            for c in 0..<s.d {
              dq[qAt + c] += slope * ks[at(j) + c] * scale
              dk[at(j) + c] += slope * qs[qAt + c] * scale
              dv[at(j) + c] += weights[j] * dy[qAt + c]
            }
          }
        }
      }
    }
    return [
      Tensor(dq.map(Float.init), shape: q.shape), Tensor(dk.map(Float.init), shape: k.shape),
      Tensor(dv.map(Float.init), shape: v.shape), Tensor(columns.map(Float.init), shape: [s.k]),
    ]
  }

  private func inputs(_ s: AttentionSize) -> [Tensor] {
    var random = TorchRandom(seed: UInt64(s.q * 31 + s.k))
    return [[s.b, s.q, s.h, s.d], [s.b, s.k, s.h, s.d], [s.b, s.k, s.h, s.d], [s.b, s.q, s.h, s.d]].map {
      random.randn($0)
    }
  }

  private func compare(_ found: [Tensor], _ expected: [Tensor], _ what: String) {
    for (index, (a, b)) in zip(found, expected).enumerated() {
      let difference = Difference(a, b)
      // One key has all the weight, whatever the query: what is left is rounding.
      let isNothing = b.array().allSatisfy { abs($0) < 1e-12 }
      #expect(
        isNothing ? difference.largest < 1e-5 : difference.relative < 1e-5, "\(what) \(index): \(difference)")
    }
  }

  @Test(arguments: sizes) func plain(_ s: AttentionSize) {
    let x = inputs(s)
    let expected = naive(s, x[0], x[1], x[2], x[3]) { _, _ in 0 }
    atEveryLevel { level in
      let leaves = x.prefix(3).map { $0.trainable() }
      let y = Tensor.attention(leaves[0], leaves[1], leaves[2])
      compare((y * x[3]).sum().gradients(of: leaves), expected, "\(level)")
    }
  }

  @Test(arguments: sizes) func masks(_ s: AttentionSize) {
    let x = inputs(s)
    var random = TorchRandom(seed: 5)
    let (bias, keyBias) = (random.randn([s.q, s.k]), random.randn([s.k]))
    var values = bias.array()
    // Every third key is hidden, and query 1 sees nothing.
    for at in values.indices where (at / s.k + at) % 3 == 2 || at / s.k == 1 { values[at] = -.infinity }
    let perKey = keyBias.array()
    let expected = naive(s, x[0], x[1], x[2], x[3]) { Double(values[$0 * s.k + $1]) + Double(perKey[$1]) }
    atEveryLevel { level in
      let leaves = (x.prefix(3) + [keyBias]).map { $0.trainable() }
      let mask = AttentionMask(bias: Tensor(values, shape: [s.q, s.k]), keyBias: leaves[3])
      let y = Tensor.attention(leaves[0], leaves[1], leaves[2], mask: mask)
      compare((y * x[3]).sum().gradients(of: leaves), expected, "\(level)")
    }
  }

  @Test func framesAndLayouts() {
    let s = AttentionSize(b: 2, q: 60, k: 66, h: 2, d: 24)
    let x = inputs(s)
    let frames = FrameVisibility(frames: 3, perFrame: 20, extra: 2)
    let expected = naive(s, x[0], x[1], x[2], x[3]) { i, j in
      j >= 60 && (j - 60) / 2 != i / 20 ? -.infinity : 0
    }
    atEveryLevel { level in
      let leaves = x.prefix(3).map { $0.permuted([0, 2, 1, 3]).contiguous().trainable() }
      let parts = leaves.map { $0.permuted([0, 2, 1, 3]) }
      let y = Tensor.attention(parts[0], parts[1], parts[2], mask: AttentionMask(frames: frames))
      let found = (y * x[3]).sum().gradients(of: leaves).map { $0.permuted([0, 2, 1, 3]) }
      compare(found, Array(expected.prefix(3)), "\(level)")
    }
  }
}
