/// Brings a window's brightness and colour to those of the window before it, so that no seam shows.
///
/// What differs between two windows' results for one frame is mostly a smooth offset (measured on a still clip: four
/// fifths of it remain after averaging over 8x8 pixels). That offset is taken from the shared frames, as a coarse
/// grid, and added to the new window with a weight that falls from 1 to nearly 0 over its frames: the step becomes a
/// drift too slow to see, and nothing adds up over a long stream.
package struct WindowMatch {
  /// Pixels along a side of a grid cell, about.
  private static let cell = 8
  /// Largest offset in levels of 255; more would be a change of content.
  private static let limit: Float = 12

  private let columns: Int
  private let rows: Int
  /// Offsets `[rows, columns, 3]`.
  private var offsets: [Float]

  /// The mean offset from `new` to `old`, two results for the same frames.
  package init(old: ArraySlice<Frame>, new: ArraySlice<Frame>) {
    let (width, height) = (new.first?.width ?? 1, new.first?.height ?? 1)
    columns = max(1, width / Self.cell)
    rows = max(1, height / Self.cell)
    offsets = [Float](repeating: 0, count: rows * columns * 3)
    var sums = [Int](repeating: 0, count: offsets.count)
    var counts = [Int](repeating: 0, count: rows * columns)
    for (before, after) in zip(old, new) {
      for y in 0..<height {
        for x in 0..<width {
          let place = y * rows / height * columns + x * columns / width
          let at = (y * width + x) * 3
          counts[place] += 1
          for channel in 0..<3 {
            sums[place * 3 + channel] += Int(before.pixels[at + channel]) - Int(after.pixels[at + channel])
          }
        }
      }
    }
    for index in offsets.indices where counts[index / 3] > 0 {
      let mean = Float(sums[index]) / Float(counts[index / 3])
      offsets[index] = max(-Self.limit, min(Self.limit, mean))
    }
  }

  /// `frame` plus the offsets, interpolated between cell centres, times `weight`.
  package func applied(to frame: Frame, weight: Float) -> Frame {
    var result = frame
    let (width, height) = (frame.width, frame.height)
    let across = (0..<width).map { neighbours($0, of: width, cells: columns) }
    for y in 0..<height {
      let (top, bottom, down) = neighbours(y, of: height, cells: rows)
      for x in 0..<width {
        let (left, right, along) = across[x]
        for channel in 0..<3 {
          func offset(_ row: Int, _ column: Int) -> Float { offsets[(row * columns + column) * 3 + channel] }
          let upper = offset(top, left) * (1 - along) + offset(top, right) * along
          let lower = offset(bottom, left) * (1 - along) + offset(bottom, right) * along
          let at = (y * width + x) * 3 + channel
          let value = Float(frame.pixels[at]) + weight * (upper * (1 - down) + lower * down)
          result.pixels[at] = UInt8(max(0, min(255, value.rounded())))
        }
      }
    }
    return result
  }

  /// The two cells whose centres enclose a pixel, and the share of the second.
  private func neighbours(_ pixel: Int, of extent: Int, cells: Int) -> (Int, Int, Float) {
    let position = (Float(pixel) + 0.5) * Float(cells) / Float(extent) - 0.5
    let first = max(0, min(cells - 1, Int(position.rounded(.down))))
    let share = max(0, min(1, position - Float(first)))
    return (first, min(cells - 1, first + 1), share)
  }
}
