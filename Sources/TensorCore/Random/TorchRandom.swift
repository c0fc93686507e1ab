import Glibc

/// torch's CPU generator (Mersenne Twister 19937) and its normal draws, so that seeds agree with diffusers.
///
/// Reference: ATen `mt19937`, `normal_fill` (16 or more values: Box-Muller over blocks of 16) and
/// `normal_distribution` (fewer: one pair at a time in double precision, the second value kept for the next
/// draw).
public struct TorchRandom: Sendable {
  private var state = [UInt32](repeating: 0, count: 624)
  private var index = 624
  private var spare: Double?

  /// Equal to `torch.Generator().manual_seed(seed)`: the low 32 bits count.
  public init(seed: UInt64) {
    state[0] = UInt32(truncatingIfNeeded: seed)
    for i in 1..<624 {
      let previous = state[i - 1]
      state[i] = 1_812_433_253 &* (previous ^ (previous >> 30)) &+ UInt32(i)
    }
  }

  /// The next 32 random bits.
  public mutating func next32() -> UInt32 {
    if index == 624 { refill() }
    var y = state[index]
    index += 1
    y ^= y >> 11
    y ^= (y << 7) & 0x9d2c_5680
    y ^= (y << 15) & 0xefc6_0000
    return y ^ (y >> 18)
  }

  /// Two draws as torch's `random64` joins them: the first is the high half.
  public mutating func next64() -> UInt64 {
    let high = UInt64(next32())
    return high << 32 | UInt64(next32())
  }

  private mutating func refill() {
    state.withUnsafeMutableBufferPointer { s in
      for i in 0..<624 {
        let y = (s[i] & 0x8000_0000) | (s[(i + 1) % 624] & 0x7fff_ffff)
        s[i] = s[(i + 397) % 624] ^ (y >> 1) ^ (y & 1 == 0 ? 0 : 0x9908_b0df)
      }
    }
    index = 0
  }

  /// A float in [0, 1) of 24 random bits.
  private mutating func uniformFloat() -> Float {
    Float(next32() & 0xff_ffff) * (1 / 16_777_216)
  }

  /// A double in [0, 1) of 53 random bits.
  private mutating func uniformDouble() -> Double {
    Double(next64() & ((1 << 53) - 1)) * (1 / 9_007_199_254_740_992)
  }

  /// Uniform values in a range (`torch.rand` times its width plus its start).
  public mutating func uniform(_ shape: [Int], in range: ClosedRange<Float> = 0...1) -> Tensor {
    let width = range.upperBound - range.lowerBound
    return Tensor(shape: shape) { values in
      for index in values.indices { values[index] = uniformFloat() * width + range.lowerBound }
    }
  }

  /// A number in [0, 1) of 53 random bits.
  public mutating func uniform() -> Double { uniformDouble() }

  /// A whole number below `bound`, all equally likely to within 2⁻⁶⁴ of `bound`.
  public mutating func below(_ bound: Int) -> Int {
    Int(next64().multipliedFullWidth(by: UInt64(bound)).high)
  }

  /// `torch.randn(shape, generator:)`: standard normal values.
  public mutating func randn(_ shape: [Int]) -> Tensor {
    let count = shape.product
    return Tensor(shape: shape) { values in
      guard count >= 16 else {
        for i in 0..<count { values[i] = Float(normalDouble()) }
        return
      }
      for i in 0..<count { values[i] = uniformFloat() }
      var start = 0
      while start + 16 <= count {
        Self.boxMuller(values, start)
        start += 16
      }
      if start < count {
        // The last 16 values are drawn anew when the count is no multiple of 16.
        start = count - 16
        for i in start..<count { values[i] = uniformFloat() }
        Self.boxMuller(values, start)
      }
    }
  }

  /// Turns 16 uniform values into normal ones: value j takes its radius from j and its angle from j + 8.
  private static func boxMuller(_ values: UnsafeMutableBufferPointer<Float>, _ start: Int) {
    for j in start..<start + 8 {
      let radius = (-2 * logf(1 - values[j])).squareRoot()
      let angle = 2 * Float.pi * values[j + 8]
      values[j] = radius * cosf(angle)
      values[j + 8] = radius * sinf(angle)
    }
  }

  private mutating func normalDouble() -> Double {
    if let value = spare {
      spare = nil
      return value
    }
    let angle = 2 * Double.pi * uniformDouble()
    let radius = (-2 * log1p(-uniformDouble())).squareRoot()
    spare = radius * sin(angle)
    return radius * cos(angle)
  }
}
