import DiffusionPipelines

/// A white picture with lines and numbers on it.
struct Canvas {
  private(set) var frame: Frame

  init(width: Int, height: Int) {
    frame = Frame(width: width, height: height, pixels: [UInt8](repeating: 255, count: width * height * 3))
  }

  /// A line of one pixel between two places.
  mutating func line(_ a: (Double, Double), _ b: (Double, Double), _ colour: (Int, Int, Int)) {
    let steps = max(1, Int(max(abs(b.0 - a.0), abs(b.1 - a.1)).rounded(.up)))
    for index in 0...steps {
      let share = Double(index) / Double(steps)
      dot(Int((a.0 + (b.0 - a.0) * share).rounded()), Int((a.1 + (b.1 - a.1) * share).rounded()), colour)
    }
  }

  /// A number in digits of 3 by 5 cells, two pixels each.
  mutating func number(_ text: String, endingAt right: Int, centre: Int) {
    var x = right
    for character in text.reversed() {
      let rows = Self.digits[character] ?? [0, 0, 0, 0, 0]
      x -= 8
      for (row, bits) in rows.enumerated() {
        for column in 0..<3 where bits >> (2 - column) & 1 == 1 {
          for cell in 0..<4 { dot(x + 2 * column + cell % 2, centre - 5 + 2 * row + cell / 2, (90, 90, 90)) }
        }
      }
    }
  }

  private mutating func dot(_ x: Int, _ y: Int, _ colour: (Int, Int, Int)) {
    guard x >= 0, y >= 0, x < frame.width, y < frame.height else { return }
    let at = (y * frame.width + x) * 3
    (frame.pixels[at], frame.pixels[at + 1], frame.pixels[at + 2]) =
      (UInt8(colour.0), UInt8(colour.1), UInt8(colour.2))
  }

  /// Rows of three bits.
  private static let digits: [Character: [Int]] = [
    "0": [7, 5, 5, 5, 7], "1": [2, 6, 2, 2, 7], "2": [7, 1, 7, 4, 7], "3": [7, 1, 7, 1, 7],
    "4": [5, 5, 7, 1, 1], "5": [7, 4, 7, 1, 7], "6": [7, 4, 7, 5, 7], "7": [7, 1, 1, 1, 1],
    "8": [7, 5, 7, 5, 7], "9": [7, 5, 7, 1, 7], ".": [0, 0, 0, 0, 2], "-": [0, 0, 7, 0, 0],
  ]
}
