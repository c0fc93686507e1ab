package import TensorCore

/// The output of a linear layer with what the base and each adapter give to it kept apart, so that other strengths need
/// no product. For inputs without a frame axis.
package struct AdaptedProduct: Sendable {
  /// `x Wᵀ + b`
  let base: Tensor
  /// Each adapter's change at strength 1 is `change * factor`.
  let parts: [(adapter: Int, change: Tensor, factor: Float)]

  /// The output at the mean strengths of `run`.
  package func sum(_ run: RunContext) -> Tensor {
    parts.reduce(base) { result, part in
      let strength = run.meanStrength(of: part.adapter)
      return strength == 0 ? result : result.adding(part.change, scaledBy: strength * part.factor)
    }
  }

  /// Whether strengths change it.
  package var isAdapted: Bool { !parts.isEmpty }
}

extension Linear {
  /// The layer's output for `x` `[…, in]`, whose rows have no frame, in parts.
  package func parts(_ x: Tensor, _ compose: ComposeMode) -> AdaptedProduct {
    AdaptedProduct(
      base: Tensor.linear(x, weight: weight, bias: bias),
      parts: adapters.compactMap { update in
        update.product(x, compose).map { (update.adapterIndex, $0.change, $0.factor) }
      })
  }

  /// Whether adapters change the layer.
  package var isAdapted: Bool { !adapters.isEmpty }
}

extension LayerUpdate {
  /// `change * factor = x dWᵀ + db`, nil where nothing changes.
  func product(_ x: Tensor, _ compose: ComposeMode) -> (change: Tensor, factor: Float)? {
    var (change, factor): (Tensor?, Float) = (nil, 1)
    switch composed(compose) {
    case .lowRank(let pair):
      change = Tensor.linear(Tensor.linear(x, weight: pair.down), weight: pair.up)
      factor = pair.scale
    case .full(let weight): change = Tensor.linear(x, weight: weight)
    case nil: break
    }
    guard let bias else { return change.map { ($0, factor) } }
    let row = bias.reshaped([Int](repeating: 1, count: x.rank - 1) + [bias.count])
    guard let change else { return (row.expanded(x.shape.dropLast() + [bias.count]), 1) }
    return (change * factor + row, 1)
  }
}
