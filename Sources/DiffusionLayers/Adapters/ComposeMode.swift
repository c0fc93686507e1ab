/// How several adapters act together. With one adapter every mode gives the same result.
public enum ComposeMode: String, Sendable, CaseIterable {
  /// The plain sum of all.
  case sum
  /// Inside each role every adapter has the same norm in every layer, so that the strengths alone set the mixture.
  case norm
  /// An adapter leaves out the input directions that an adapter before it uses most.
  case projected

  /// One sentence for lists of choices.
  public var summary: String {
    switch self {
    case .sum: "Add the adapters' deltas, each times its strength"
    case .norm: "Give adapters of one role the same norm in every layer, then add"
    case .projected: "Take the directions an earlier adapter uses most out of the later ones, then add"
    }
  }
}
