import Glibc
package import TensorCore

/// All randomness of a training, from its seed and the place where it is used: a resumed training needs nothing but the
/// number of its step.
package struct StepRandom: Sendable {
  package let seed: Int

  package init(seed: Int) { self.seed = seed }

  /// What a stream of random numbers is for.
  package enum Purpose: UInt64, Sendable {
    case factors = 1
    case order, sample, heldOut, split
  }

  /// A generator of its own for every purpose and pair of numbers.
  package func generator(_ purpose: Purpose, _ a: Int = 0, _ b: Int = 0) -> TorchRandom {
    TorchRandom(seed: number(purpose, a, b))
  }

  /// A number for those three (splitmix64).
  package func number(_ purpose: Purpose, _ a: Int, _ b: Int) -> UInt64 {
    [UInt64(seed), purpose.rawValue, UInt64(a), UInt64(b)].reduce(0x9e37_79b9_7f4a_7c15) { state, value in
      var z = state &+ value &+ 0x9e37_79b9_7f4a_7c15
      z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
      z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
      return z ^ (z >> 31)
    }
  }

  /// `0..<count` in a random order.
  package func permutation(_ purpose: Purpose, _ a: Int, count: Int) -> [Int] {
    var random = generator(purpose, a)
    var order = Array(0..<count)
    for last in stride(from: count - 1, to: 0, by: -1) { order.swapAt(last, random.below(last + 1)) }
    return order
  }
}

extension TrainingRecipe.Timesteps {
  /// A time in [0, 1) for sample `index` of a batch.
  package func draw(_ index: Int, of batch: Int, _ random: inout TorchRandom) -> Double {
    switch self {
    case .uniform: random.uniform()
    case .stratified: (Double(index) + random.uniform()) / Double(batch)
    case .logitNormal: 1 / (1 + exp(-Double(random.randn([1]).array()[0])))
    }
  }
}
