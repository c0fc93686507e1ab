/// Frames per second as a fraction.
package struct FrameRate: Sendable, Equatable, CustomStringConvertible {
  package var numerator: Int
  package var denominator: Int

  package init(_ numerator: Int, _ denominator: Int = 1) {
    self.numerator = numerator
    self.denominator = denominator
  }

  /// Reads `25` or `24000/1001`.
  package init?(argument: String) {
    let parts = argument.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 1 || parts.count == 2, let first = Int(parts[0]), (1...1_000_000).contains(first),
      let second = parts.count == 2 ? Int(parts[1]) : 1, (1...1_000_000).contains(second)
    else { return nil }
    self.init(first, second)
  }

  package var description: String { denominator == 1 ? "\(numerator)" : "\(numerator)/\(denominator)" }
}
