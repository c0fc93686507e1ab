/// What the tokens of an adapter's strength stand for, and what its pairs do.
public struct ControlStyle: Sendable, Equatable {
  public enum Tokens: String, Sendable, CaseIterable {
    /// A frame's token says the strength at that frame.
    case level
    /// A frame's token says how far the motion has come by then: strengths summed up over the frames before it, 1 at
    /// the end of a clip of strength 1. The strength is a speed then, and a frame's place a function of its token alone.
    case path
  }

  public enum Pairs: String, Sendable, CaseIterable {
    /// They act whole at every strength.
    case whole
    /// They act times the strength, as those of a plain LoRA do.
    case scaled
  }

  public var tokens: Tokens
  public var pairs: Pairs

  public init(tokens: Tokens = .level, pairs: Pairs = .whole) {
    (self.tokens, self.pairs) = (tokens, pairs)
  }

  /// What the token of each latent frame says, for the strengths of these frames.
  public func places(_ strengths: [Float]) -> [Float] {
    guard tokens == .path, strengths.count > 1 else { return strengths }
    var sum: Float = 0
    return strengths.enumerated().map { frame, strength in
      if frame > 0 { sum += strength }
      return sum / Float(strengths.count - 1)
    }
  }
}
