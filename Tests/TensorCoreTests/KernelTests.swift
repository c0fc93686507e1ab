import TensorCore
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// SIMD kernels against naive twins in double precision, at every level this CPU has.
@Suite(.serialized) struct KernelTests {
  private func inputs(_ count: Int, scale: Float = 3) -> [Float] {
    var random = TorchRandom(seed: UInt64(count))
    return random.randn([count]).array().map { $0 * scale }
  }

  private func compare(_ found: Tensor, _ expected: [Double], _ what: String, within bound: Double = 1e-6) {
    let difference = Difference(found, Tensor(expected.map(Float.init), shape: found.shape))
    #expect(difference.relative < bound, "\(what): \(difference)")
  }

  @Test(arguments: [1, 7, 15, 16, 17, 31, 33, 1000, 40000]) func pointwise(_ count: Int) {
    let x = inputs(count)
    let tensor = Tensor(x, shape: [count])
    atEveryLevel { level in
      compare(tensor.silu(), x.map { Double($0) / (1 + exp(-Double($0))) }, "silu \(level)")
      compare(
        tensor.geluTanh(),
        x.map { value in
          let v = Double(value)
          return 0.5 * v * (1 + tanh(0.7978845608028654 * (v + 0.044715 * v * v * v)))
        }, "gelu \(level)")
      compare(tensor.softClamped(3), x.map { tanh(Double($0) / 3) * 3 }, "clamp \(level)")
      #expect(tensor.relu().array() == x.map { max(0, $0) })
      compare(tensor.sum(), [x.reduce(0.0) { $0 + Double($1) }], "sum \(level)", within: 1e-4)
    }
  }

  @Test func extremes() {
    let x: [Float] = [-1000, -100, -88, 0, 88, 100, 1000]
    atEveryLevel { level in
      let silu = Tensor(x, shape: [7]).silu().array()
      #expect(silu[0] == 0 || abs(silu[0]) < 1e-30, "\(level)")
      #expect(silu[6] == 1000 && silu.allSatisfy(\.isFinite), "\(level)")
    }
  }

  @Test(arguments: [1, 5, 16, 77, 600]) func attentionAgainstNaive(_ keys: Int) {
    let (queries, heads, size) = (70, 2, 8)
    var random = TorchRandom(seed: 3)
    let (q, k, v) = (
      random.randn([1, queries, heads, size]), random.randn([1, keys, heads, size]),
      random.randn([1, keys, heads, size])
    )
    let (qs, ks, vs) = (q.array(), k.array(), v.array())
    var expected = [Double](repeating: 0, count: queries * heads * size)
    for query in 0..<queries {
      for head in 0..<heads {
        let scores = (0..<keys).map { key in
          (0..<size).reduce(0.0) {
            $0 + Double(qs[(query * heads + head) * size + $1]) * Double(ks[(key * heads + head) * size + $1])
          } / Double(size).squareRoot()
        }
        let top = scores.max() ?? 0
        let weights = scores.map { exp($0 - top) }
        let total = weights.reduce(0, +)
        for channel in 0..<size {
          expected[(query * heads + head) * size + channel] = (0..<keys).reduce(0.0) {
            $0 + weights[$1] / total * Double(vs[($1 * heads + head) * size + channel])
          }
        }
      }
    }
    atEveryLevel { compare(Tensor.attention(q, k, v), expected, "attention \($0)", within: 2e-6) }
  }

  @Test func halfPrecision() {
    let bits: [UInt16] = [0x0000, 0x8000, 0x3c00, 0xbc00, 0x0001, 0x03ff, 0x0400, 0x7bff, 0x7c00, 0xfc00]
    let values: [Float] = [
      0, -0.0, 1, -1, 5.9604645e-8, 6.097555e-5, 6.1035156e-5, 65504, .infinity, -.infinity,
    ]
    atEveryLevel { level in
      var result = [Float](repeating: 9, count: bits.count)
      bits.withUnsafeBytes { HalfConversion.float16ToFloat($0.baseAddress!, &result, count: bits.count) }
      #expect(result == values, "\(level)")
      let brain: [UInt16] = values.map { UInt16($0.bitPattern >> 16) }
      brain.withUnsafeBytes { HalfConversion.bfloat16ToFloat($0.baseAddress!, &result, count: bits.count) }
      #expect(result == brain.map { Float(bitPattern: UInt32($0) << 16) }, "\(level)")
    }
  }

  @Test func finiteScan() {
    atEveryLevel { _ in
      #expect(Tensor(inputs(100), shape: [100]).isFinite)
      for bad in [Float.nan, .infinity, -.infinity] {
        var x = inputs(100)
        x[77] = bad
        #expect(!Tensor(x, shape: [100]).isFinite)
      }
    }
  }
}
