import DiffusionLayers
import DiffusionPipelines
import TensorCore
import TestSupport
import Testing

/// Windows over long clips: every frame is in one, and what windows agree in comes out unchanged.
@Suite struct ContextWindowsTests {
  @Test(arguments: [(16, 4), (16, 0), (8, 7), (5, 2), (1, 0), (24, 12)], [17, 33, 40, 100])
  func everyFrameIsInAWindow(_ shape: (length: Int, overlap: Int), _ frames: Int) {
    let windows = ContextWindows(length: shape.length, overlap: shape.overlap)
    for step in 0..<3 {
      let ranges = windows.ranges(frames: frames, step: step)
      #expect(ranges.allSatisfy { $0.count == min(shape.length, frames) })
      #expect(ranges.first?.lowerBound == 0 && ranges.last?.upperBound == frames)
      for (range, next) in zip(ranges, ranges.dropFirst()) {
        #expect(range.lowerBound < next.lowerBound && next.lowerBound <= range.upperBound)
      }
      #expect(ranges.allSatisfy { windows.weights($0, frames: frames).allSatisfy { $0 > 0 && $0 <= 1 } })
    }
  }

  @Test func bordersMoveFromStepToStep() {
    let windows = ContextWindows(length: 16, overlap: 4)
    let borders = { (step: Int) in
      Set(windows.ranges(frames: 100, step: step).dropFirst().dropLast().map(\.lowerBound))
    }
    #expect(borders(0).isDisjoint(with: borders(1)))
    #expect(borders(0) == borders(2))
  }

  @Test func predictionsThatAgreeAreUnchanged() throws {
    var random = TorchRandom(seed: 3)
    let clip = random.randn([2, 4, 21, 2, 3])
    for step in 0..<2 {
      let joined = try ContextWindows(length: 8, overlap: 3).joined(frames: 21, step: step) { range in
        clip.narrow(2, from: range.lowerBound, length: range.count).contiguous()
      }
      #expect(Difference(joined, clip).relative < Tolerance.operation)
    }
  }

  @Test func sharedFramesAreMixedByTheirPlace() throws {
    // Two windows of 4 with 2 frames in common: 1, 1, 2/3, 1/3 of the first.
    let joined = try ContextWindows(length: 4, overlap: 2).joined(frames: 6, step: 0) { range in
      Tensor(repeating: range.lowerBound == 0 ? 0 : 3, shape: [1, 1, range.count, 1, 1])
    }
    let expected: [Float] = [0, 0, 1, 2, 3, 3]
    for (found, wanted) in zip(joined.array(), expected) { #expect(abs(found - wanted) < 1e-6) }
  }

  @Test func strengthsAreThoseOfTheWindowsFrames() {
    let run = RunContext(strengths: [[0, 1, 2, 3], [5]])
    #expect(run.narrowed(to: 1..<3).strengths == [[1, 2], [5]])
  }

  @Test func windowsAreNoLongerThanTheModelTakes() {
    #expect(ContextWindows(length: 16, overlap: 8).limited(to: 6) == ContextWindows(length: 6, overlap: 5))
    #expect(ContextWindows(length: 16, overlap: 4).limited(to: 32) == ContextWindows(length: 16, overlap: 4))
  }
}
