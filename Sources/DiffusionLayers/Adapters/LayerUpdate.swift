public import TensorCore

/// What one adapter does to one layer: `W + strength * dW`, `b + strength * db`.
///
/// Never merged: layers add the change's output to their own, so that the strength of a run, one number per adapter
/// and frame, is free to move.
public struct LayerUpdate: Sendable {
  /// A change of a weight.
  public enum Change: Sendable {
    case lowRank(LoRAPair)
    /// The whole change: `[out, in]` for a linear layer, `[dim]` for a norm.
    case full(Tensor)

    func scaled(by gain: Float) -> Change {
      switch self {
      case .lowRank(let pair):
        .lowRank(LoRAPair(down: pair.down, up: pair.up, scale: pair.scale * gain))
      case .full(let change): .full(change * gain)
      }
    }
  }

  /// Which adapter of the model this is, in the order they were given; selects the strength.
  public var adapterIndex: Int
  /// dW, or nil where only the bias changes.
  public let weight: Change?
  /// db `[out]`, or nil where the bias stays.
  public let bias: Tensor?
  /// What the model's other adapters mean for this update under a compose mode other than `sum`.
  var fusion: LayerFusion?

  public init(adapterIndex: Int, weight: Change?, bias: Tensor? = nil) {
    self.adapterIndex = adapterIndex
    self.weight = weight
    self.bias = bias
  }

  /// The low-rank pair, if the weight changes by one.
  public var pair: LoRAPair? {
    if case .lowRank(let pair)? = weight { pair } else { nil }
  }

  /// `result + strength * (x dWᵀ + db)` for a linear layer; `x` is `[…, in]`, `result` `[…, out]`.
  func add(to result: consuming Tensor, linear x: Tensor, _ run: RunContext) -> Tensor {
    guard let perToken = strengths(x, run) else {
      let strength = run.meanStrength(of: adapterIndex)
      if strength == 0 { return result }
      switch composed(run.compose, isToken: run.isControlToken) {
      case .lowRank(let pair):
        result = (consume result).addingLowRank(
          x, down: pair.down, up: pair.up, scale: strength * pair.scale)
      case .full(let change): result = result.adding(Tensor.linear(x, weight: change), scaledBy: strength)
      case nil: break
      }
      guard let bias else { return result }
      return result + row(bias, like: result) * strength
    }
    switch composed(run.compose, isToken: run.isControlToken) {
    case .lowRank(let pair):
      // [B, L, r], scaled per token before the up projection.
      let hidden = Tensor.linear(x, weight: pair.down) * (perToken * pair.scale)
      result = result + Tensor.linear(hidden, weight: pair.up)
    case .full(let change): result = result + Tensor.linear(x * perToken, weight: change)
    case nil: break
    }
    guard let bias else { return result }
    return result + perToken * row(bias, like: result)
  }

  /// `result + strength * (norm(x) dW + db)` for a norm; `normalized` computes norm(x) times a weight `[dim]`.
  func add(to result: Tensor, _ run: RunContext, normalized: (Tensor) -> Tensor) -> Tensor {
    var change: Tensor?
    if case .full(let weight)? = composed(run.compose, isToken: run.isControlToken) {
      change = normalized(weight)
    }
    if let bias { change = change.map { $0 + row(bias, like: result) } ?? row(bias, like: result) }
    guard let change else { return result }
    if let perToken = strengths(result, run) { return result + change * perToken }
    let strength = run.meanStrength(of: adapterIndex)
    return strength == 0 ? result : result + change * strength
  }

  /// The change of the weight beside the model's other adapters.
  /// - Parameter isToken: whether it acts on the adapter's own control token, which the others do not touch: under
  ///   `norm` the update has the norm that its own file states.
  func composed(_ mode: ComposeMode, isToken: Bool = false) -> Change? {
    guard let fusion, let weight else { return weight }
    if isToken {
      guard mode == .norm, fusion.ownGain != 1 else { return weight }
      return weight.scaled(by: fusion.ownGain)
    }
    switch (mode, weight) {
    case (.norm, _): return weight.scaled(by: fusion.normGain)
    case (.projected, .lowRank(let pair)): return .lowRank(fusion.projected?.value ?? pair)
    case (.projected, .full), (.sum, _): return weight
    }
  }

  /// The update as one low-rank pair at the strength of the run, nil where it is off or something else.
  func pair(for x: Tensor, _ run: RunContext) -> LoRAPair? {
    guard bias == nil, strengths(x, run) == nil,
      case .lowRank(let pair)? = composed(run.compose, isToken: run.isControlToken)
    else {
      return nil
    }
    let strength = run.meanStrength(of: adapterIndex)
    return strength == 0 ? nil : LoRAPair(down: pair.down, up: pair.up, scale: strength * pair.scale)
  }

  /// `[1, L, 1]`: the strength of each token's latent frame where it differs between them, else nil.
  private func strengths(_ x: Tensor, _ run: RunContext) -> Tensor? {
    guard case .frames(let perFrame) = run.axis, let frames = run.animatedStrength(of: adapterIndex) else {
      return nil
    }
    let perToken = frames.flatMap { [Float](repeating: $0, count: perFrame) }
    precondition(perToken.count == x.shape[1], "\(perToken.count) strengths for \(x.shape[1]) tokens")
    return Tensor(perToken, shape: [1, perToken.count, 1])
  }

  /// `[dim]` with as many dimensions as `other` has.
  private func row(_ vector: Tensor, like other: Tensor) -> Tensor {
    vector.reshaped([Int](repeating: 1, count: other.shape.count - 1) + [vector.count])
  }
}
