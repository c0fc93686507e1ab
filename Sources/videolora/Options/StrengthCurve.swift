/// A strength over the frames of a clip: values at some frames, linear between them, constant outside.
struct StrengthCurve: Sendable, Equatable {
  struct Point: Sendable, Equatable {
    var frame: Int
    var strength: Float
  }

  /// At least one, frames rising.
  let points: [Point]

  init(constant strength: Float) { points = [Point(frame: 0, strength: strength)] }

  /// Reads `0:0,8:1`: frame index and strength.
  init(_ text: String, in range: ClosedRange<Float>) throws(CLIError) {
    var points: [Point] = []
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      let halves = part.split(separator: ":", omittingEmptySubsequences: false)
      guard halves.count == 2, let frame = Int(halves[0]), frame >= 0, let strength = Float(halves[1]) else {
        throw CLIError("'\(part)' is no frame:strength pair; write for example 0:0,8:1")
      }
      guard range.contains(strength) else {
        throw CLIError("the strength \(halves[1]) must lie in \(range.lowerBound)…\(range.upperBound)")
      }
      if let last = points.last, frame <= last.frame {
        throw CLIError("frame \(frame) comes after frame \(last.frame); frames must rise")
      }
      points.append(Point(frame: frame, strength: strength))
    }
    self.points = points
  }

  /// The strength of a frame.
  func value(at frame: Int) -> Float {
    guard let next = points.firstIndex(where: { $0.frame > frame }) else { return points.last?.strength ?? 1 }
    guard next > 0 else { return points[0].strength }
    let (a, b) = (points[next - 1], points[next])
    return a.strength + (b.strength - a.strength) * Float(frame - a.frame) / Float(b.frame - a.frame)
  }

  /// The one strength it has everywhere, or nil.
  var constant: Float? { Set(points.map(\.strength)).count == 1 ? points.first?.strength : nil }

  /// The values for a clip of `frames`.
  func values(_ frames: Int) -> [Float] { (0..<frames).map(value) }
}
