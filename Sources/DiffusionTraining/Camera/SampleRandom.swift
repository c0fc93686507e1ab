import Glibc

/// Random numbers of one sample: they depend on the seed and the sample's index alone (SplitMix64).
package struct SampleRandom: Sendable {
  private var state: UInt64

  package init(seed: UInt64, index: Int) {
    state = seed ^ (UInt64(bitPattern: Int64(index)) &* 0xd134_2543_de82_ef95)
    _ = next()
  }

  package mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  /// A number in 0..<1.
  package mutating func uniform() -> Float { Float(next() >> 40) * 0x1p-24 }

  /// A whole number in 0..<count.
  package mutating func below(_ count: Int) -> Int { Int(next() % UInt64(count)) }

  /// A standard normal number.
  package mutating func normal() -> Float {
    let radius = (-2 * logf(1 - uniform())).squareRoot()
    return radius * cosf(2 * .pi * uniform())
  }
}
