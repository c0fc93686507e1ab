import DiffusionPipelines
import Testing

/// The smooth offset between windows.
@Suite struct WindowMatchTests {
  private func frame(_ width: Int, _ height: Int, _ value: (Int, Int, Int) -> Int) -> Frame {
    var pixels: [UInt8] = []
    for y in 0..<height {
      for x in 0..<width {
        for channel in 0..<3 { pixels.append(UInt8(value(x, y, channel))) }
      }
    }
    return Frame(width: width, height: height, pixels: pixels)
  }

  @Test(arguments: [(64, 48), (17, 16), (33, 50)]) func constantOffsetIsRemoved(_ width: Int, _ height: Int) {
    let old = frame(width, height) { x, y, channel in 100 + (x + y) % 20 + channel }
    let new = frame(width, height) { x, y, channel in 100 + (x + y) % 20 + channel - 5 + 2 * channel }
    let match = WindowMatch(old: [old, old][...], new: [new, new][...])
    #expect(match.applied(to: new, weight: 1) == old)
    #expect(match.applied(to: new, weight: 0) == new)
  }

  @Test func offsetsAreSmoothAndLimited() {
    // A step of content inside a cell's reach must not come back as a sharp edge, and a change of scene is no offset.
    let old = frame(64, 64) { x, _, _ in x < 32 ? 100 : 104 }
    let new = frame(64, 64) { _, _, _ in 100 }
    let result = WindowMatch(old: [old][...], new: [new][...]).applied(to: new, weight: 1)
    let row = (0..<64).map { Int(result.pixels[$0 * 3]) }
    #expect(zip(row, row.dropFirst()).allSatisfy { abs($0 - $1) <= 1 }, "\(row)")
    let dark = frame(64, 64) { _, _, _ in 0 }
    let light = frame(64, 64) { _, _, _ in 255 }
    let limited = WindowMatch(old: [light][...], new: [dark][...]).applied(to: dark, weight: 1)
    #expect(limited.pixels.allSatisfy { $0 <= 12 })
  }
}
