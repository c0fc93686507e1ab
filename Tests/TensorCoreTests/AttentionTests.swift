import TensorCore
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// Attention against a naive twin in double precision: every kind of mask, odd sizes, at every level of this CPU.
@Suite(.serialized) struct AttentionTests {
  static let sizes = [
    AttentionSize(b: 1, q: 1, k: 1, h: 1, d: 1), AttentionSize(b: 2, q: 7, k: 5, h: 3, d: 4),
    AttentionSize(b: 1, q: 48, k: 16, h: 2, d: 40),
    AttentionSize(b: 3, q: 16, k: 16, h: 8, d: 40), AttentionSize(b: 1, q: 49, k: 255, h: 2, d: 32),
    AttentionSize(b: 2, q: 101, k: 257, h: 1, d: 17),
    AttentionSize(b: 1, q: 97, k: 600, h: 2, d: 128), AttentionSize(b: 1, q: 50, k: 8, h: 4, d: 32),
    AttentionSize(b: 1, q: 3, k: 1030, h: 1, d: 160),
  ]

  private func inputs(_ s: AttentionSize, gain: Float = 2) -> (Tensor, Tensor, Tensor) {
    var random = TorchRandom(seed: UInt64(s.q * 31 + s.k))
    return (
      random.randn([s.b, s.q, s.h, s.d]) * gain, random.randn([s.b, s.k, s.h, s.d]),
      random.randn([s.b, s.k, s.h, s.d])
    )
  }

  /// `added` is what the mask adds for (head, query, key).
  private func naive(
    _ s: AttentionSize, _ q: Tensor, _ k: Tensor, _ v: Tensor, scale: Double? = nil,
    added: (Int, Int, Int) -> Double = { _, _, _ in 0 }
  ) -> Tensor {
    let (qs, ks, vs) = (q.array().map(Double.init), k.array().map(Double.init), v.array().map(Double.init))
    let scale = scale ?? 1 / Double(s.d).squareRoot()
    var result = [Float](repeating: 0, count: q.count)
    for b in 0..<s.b {
      for h in 0..<s.h {
        for i in 0..<s.q {
          let qAt = ((b * s.q + i) * s.h + h) * s.d
          let at = { (j: Int) in ((b * s.k + j) * s.h + h) * s.d }
          let scores = (0..<s.k).map { j in
            (0..<s.d).reduce(0.0) { $0 + qs[qAt + $1] * ks[at(j) + $1] } * scale + added(h, i, j)
          }
          let top = scores.max() ?? 0
          if top == -.infinity { continue }
          let weights = scores.map { exp($0 - top) }
          let total = weights.reduce(0, +)
          for c in 0..<s.d {
            result[qAt + c] = Float((0..<s.k).reduce(0.0) { $0 + weights[$1] * vs[at($1) + c] } / total)
          }
        }
      }
    }
    return Tensor(result, shape: q.shape)
  }

  private func compare(_ found: Tensor, _ expected: Tensor, _ what: String) {
    let difference = Difference(found, expected)
    // Scores of 30 and more are rounded to 2e-6, and so is what they weigh.
    #expect(difference.relative < 1e-5, "\(what): \(difference)")
  }

  @Test(arguments: sizes) func plain(_ s: AttentionSize) {
    let (q, k, v) = inputs(s)
    let expected = naive(s, q, k, v)
    let scaled = naive(s, q, k, v, scale: 0.3)
    atEveryLevel {
      compare(Tensor.attention(q, k, v), expected, "\($0)")
      compare(Tensor.attention(q, k, v, scale: 0.3), scaled, "scale \($0)")
    }
  }

  @Test(arguments: sizes) func biases(_ s: AttentionSize) {
    let (q, k, v) = inputs(s)
    var random = TorchRandom(seed: 5)
    // Every third key hidden; the query 1 sees nothing, and the first 300 keys of query 2 are hidden.
    func hidden(_ i: Int, _ j: Int) -> Bool { (i + j) % 3 == 2 || i == 1 || i == 2 && j < 300 }
    for shape in [[s.q, s.k], [s.h, s.q, s.k]] {
      var values = random.randn(shape).array()
      for at in values.indices where hidden(at / s.k % s.q, at % s.k) { values[at] = -.infinity }
      let expected = naive(s, q, k, v) { h, i, j in
        Double(values[((shape.count == 3 ? h : 0) * s.q + i) * s.k + j])
      }
      let bias = Tensor(values, shape: shape)
      atEveryLevel { compare(Tensor.attention(q, k, v, bias: bias), expected, "bias \(shape) \($0)") }
      if s.q > 1 {
        let row = Tensor.attention(q, k, v, bias: bias).narrow(1, from: 1, length: 1).array()
        #expect(row.allSatisfy { $0 == 0 })
      }
    }
    let distances = s.q + s.k - 1
    let table = random.randn([s.h, distances])
    let values = table.array()
    let keyBias = random.randn([s.k])
    let perKey = keyBias.array()
    let relative = naive(s, q, k, v) { h, i, j in
      Double(values[h * distances + j - i + s.q - 1]) + Double(perKey[j])
    }
    atEveryLevel {
      compare(
        Tensor.attention(q, k, v, mask: AttentionMask(relativeBias: table, keyBias: keyBias)), relative,
        "relative \($0)")
    }
  }

  /// Control tokens behind the video's: each frame sees its own, and all of the video.
  @Test(arguments: [(3, 20, 2), (2, 150, 1)]) func framesSeeTheirExtraTokens(
    frames: Int, perFrame: Int, extra: Int
  ) {
    let tokens = frames * perFrame
    let s = AttentionSize(b: 2, q: tokens, k: tokens + frames * extra, h: 2, d: 24)
    let (q, k, v) = inputs(s)
    var random = TorchRandom(seed: 11)
    let keyBias = random.randn([s.k])
    let perKey = keyBias.array()
    let mask = AttentionMask(
      keyBias: keyBias, frames: FrameVisibility(frames: frames, perFrame: perFrame, extra: extra))
    let expected = naive(s, q, k, v) { _, i, j in
      j >= tokens && (j - tokens) / extra != i / perFrame ? -.infinity : Double(perKey[j])
    }
    atEveryLevel { compare(Tensor.attention(q, k, v, mask: mask), expected, "frames \($0)") }
    let weights = Tensor.attentionWeights(q, k, mask: mask).array()
    for at in weights.indices {
      let (i, j) = (at / s.k % s.q, at % s.k)
      if j >= tokens && (j - tokens) / extra != i / perFrame { #expect(weights[at] < 1e-30) }
    }
  }

  @Test func largeScoresAndNaN() {
    let s = AttentionSize(b: 1, q: 60, k: 300, h: 1, d: 16)
    let (q, k, v) = inputs(s, gain: 100)
    let difference = Difference(Tensor.attention(q, k, v), naive(s, q, k, v))
    // Scores of some hundreds carry their own rounding into the exponent.
    #expect(difference.relative < 1e-3, "\(difference)")
    var values = q.array()
    values[5 * 16 + 3] = .nan
    let bad = Tensor.attention(Tensor(values, shape: q.shape), k, v)
    #expect(!bad.isFinite)
    #expect(bad.narrow(1, from: 0, length: 5).isFinite)
  }

  @Test func anyLayoutIsReadInPlace() {
    let s = AttentionSize(b: 2, q: 70, k: 33, h: 3, d: 8)
    let (q, k, v) = inputs(s)
    func headsFirst(_ x: Tensor) -> Tensor { x.permuted([0, 2, 1, 3]).contiguous().permuted([0, 2, 1, 3]) }
    func channelsFirst(_ x: Tensor) -> Tensor {
      x.permuted([3, 0, 1, 2]).contiguous().permuted([1, 2, 3, 0])
    }
    let expected = Tensor.attention(q, k, v).array()
    #expect(Tensor.attention(headsFirst(q), headsFirst(k), headsFirst(v)).array() == expected)
    #expect(Tensor.attention(channelsFirst(q), channelsFirst(k), channelsFirst(v)).array() == expected)
  }

  @Test func weightsSumToOneAndGiveTheOutput() {
    let s = AttentionSize(b: 1, q: 20, k: 37, h: 2, d: 8)
    let (q, k, v) = inputs(s)
    let weights = Tensor.attentionWeights(q, k)
    #expect(weights.shape == [1, 2, 20, 37])
    let (w, values, out) = (weights.array(), v.array(), Tensor.attention(q, k, v).array())
    for (i, h, c) in [(0, 0, 0), (7, 1, 3), (19, 1, 7)] {
      let row = w[(h * 20 + i) * 37..<(h * 20 + i + 1) * 37]
      #expect(abs(row.reduce(0, +) - 1) < 1e-5)
      let sum = zip(row, 0..<37).reduce(Float(0)) { $0 + $1.0 * values[($1.1 * 2 + h) * 8 + c] }
      #expect(abs(sum - out[(i * 2 + h) * 8 + c]) < 1e-5)
    }
  }
}
