import Synchronization
import TensorCore
import Testing

/// The engine's parallel loop.
@Suite struct ParallelTests {
  @Test func everyIterationRunsOnce() {
    for count in [0, 1, 2, 3, 17, 1000] {
      let sum = Atomic<Int>(0)
      parallelFor(count) { sum.wrappingAdd($0 + 1, ordering: .relaxed) }
      #expect(sum.load(ordering: .relaxed) == count * (count + 1) / 2)
    }
  }

  @Test func manyShortLoopsFromSeveralThreads() async {
    // Workers leave a loop while its caller is already in the next one.
    await withTaskGroup(of: Int.self) { group in
      for caller in 0..<4 {
        group.addTask {
          var total = 0
          for round in 0..<20_000 {
            let sum = Atomic<Int>(0)
            parallelFor(2 + (round + caller) % 3) { sum.wrappingAdd($0, ordering: .relaxed) }
            total += sum.load(ordering: .relaxed)
          }
          return total
        }
      }
      for await total in group { #expect(total > 0) }
    }
  }

  @Test func nestedLoopsRunInPlace() {
    let sum = Atomic<Int>(0)
    parallelFor(8) { outer in
      parallelFor(8) { sum.wrappingAdd(outer * 8 + $0, ordering: .relaxed) }
    }
    #expect(sum.load(ordering: .relaxed) == 64 * 63 / 2)
  }
}
