import CKernels

/// A low-rank change of a linear layer: `scale * up · down`.
package struct LowRankChange: Sendable {
  /// `[rank, in]`
  package let down: Tensor
  /// `[out, rank]`
  package let up: Tensor
  package let scale: Float

  package init(down: Tensor, up: Tensor, scale: Float) {
    (self.down, self.up, self.scale) = (down, up, scale)
  }
}

extension Tensor {
  /// `residual + gate * (x · weightᵀ + bias + scale * (x · downᵀ) · upᵀ)`: a linear layer with one low-rank adapter. One pass
  /// where the weight is packed (`Weight.packed()`), else one operation after the other.
  package static func linear(
    _ x: Tensor, weight: Weight, bias: Tensor?, change: LowRankChange, residual: Tensor? = nil,
    gate: Tensor? = nil
  ) -> Tensor {
    if let matrix = weight.panels, bias?.isRecorded != true, gate?.isRecorded != true {
      return PanelLinear(
        matrix: matrix, x: x, finish: LinearFinish(x, bias, .identity, residual, gate), change: change
      ).callAsFunction()
    }
    let result = linear(x, weight: weight, bias: bias)
      .addingLowRank(x, down: change.down, up: change.up, scale: change.scale)
    guard let residual else { return result }
    return gate.map { gatedAdd(residual, result, gate: $0) } ?? residual + result
  }

  /// `residual + gate * activation(x · Wᵀ + bias)` with a packed matrix, with or without a record; nil where a bias or gate
  /// is recorded.
  static func linear(
    _ x: Tensor, panels matrix: PanelMatrix, bias: Tensor?, activation: Activation, residual: Tensor?,
    gate: Tensor?
  ) -> Tensor? {
    if bias?.isRecorded == true || gate?.isRecorded == true { return nil }
    return PanelLinear(
      matrix: matrix, x: x, finish: LinearFinish(x, bias, activation, residual, gate), change: nil
    ).callAsFunction()
  }
}

extension LinearFinish {
  fileprivate init(
    _ x: Tensor, _ bias: Tensor?, _ activation: Activation, _ residual: Tensor?, _ gate: Tensor?
  ) {
    self.init(
      bias: bias?.contiguous(), activation: activation, residual: residual?.contiguous(),
      gate: gate?.contiguous(), rowsPerGate: x.rank == 3 ? x.shape[1] : 1)
  }
}

/// A linear layer with a packed matrix: `residual + gate * activation(u)` with `u = x · Wᵀ + bias + h · upᵀ` and
/// `h = scale * x · downᵀ`.
///
/// Gradients: with `du = gate * dy * activation'(u)` and `dh = scale * du · up`: `dx = du · W + dh · down`,
/// `ddown = dhᵀ · x`, `dup = duᵀ · h`. What the change gives to a product is added before the sums leave the registers, and
/// everything around a product is done on pieces of rows that are still in the cache.
private struct PanelLinear {
  let matrix: PanelMatrix
  let x: Tensor
  /// Bias and gate are frozen.
  let finish: LinearFinish
  let change: LowRankChange?

  private var inputs: Int { matrix.inputs }
  private var outputs: Int { matrix.outputs }

  func callAsFunction() -> Tensor {
    let source = x.detached().contiguous()
    let rows = source.count / max(1, inputs)
    let pair = change.map(PackedChange.init)
    if let pair {
      precondition(
        pair.down.shape == [pair.rank, inputs] && pair.up.shape == [outputs, pair.rank],
        "low-rank change \(pair.up.shape) x \(pair.down.shape) of [\(outputs), \(inputs)]")
    }
    let isRecorded = [x, change?.down, change?.up, finish.residual].contains { $0?.isRecorded == true }
    let shape: [Int] = x.shape.dropLast() + [outputs]
    // What the activation was made of is kept for its gradient.
    let before = Tensor(uninitialized: shape)
    let keepsBefore = finish.activation != .identity && isRecorded
    let result = keepsBefore ? Tensor(uninitialized: shape) : before
    let hidden = pair.map { Tensor(uninitialized: [rows, $0.stride]) }
    FlopCounter.add(2 * Double(rows) * Double(inputs * outputs + (pair?.rank ?? 0) * (inputs + outputs)))
    let (down, up) = (pair?.downTransposed(), pair?.upTransposed())
    let (onto, gates) = (finish.residual?.base, finish.gate?.base)
    Panels.forRows(rows, work: inputs * outputs) { first, count in
      let from = Panels.Term(
        rows: UnsafePointer(source.base + first * inputs), stride: inputs, panels: matrix.forward)
      var second: Panels.Term?
      if let pair, let hidden, let down, let up {
        let target = hidden.base + first * pair.stride
        Panels.multiply(
          to: target, stride: pair.stride, rows: count, columns: pair.stride, scale: pair.scale,
          Panels.Term(rows: from.rows, stride: inputs, panels: down))
        second = Panels.Term(rows: UnsafePointer(target), stride: pair.stride, panels: up)
      }
      let (target, end) = (before.base + first * outputs, result.base + first * outputs)
      Panels.multiply(
        to: target, stride: outputs, rows: count, columns: outputs,
        bias: finish.bias.map { UnsafePointer($0.base) }, from, second)
      finish.activation.apply(end, target, count * outputs)
      if let onto {
        for row in 0..<count {
          let (to, from) = (end + row * outputs, onto + (first + row) * outputs)
          if let gates {
            kernels.add_gated(to, from, to, gates + (first + row) / finish.rowsPerGate * outputs, outputs)
          } else {
            kernels.add(to, from, to, outputs)
          }
        }
      }
    }
    keepAlive(source, finish, before, hidden)
    guard isRecorded else { return result }
    return result.recorded(
      accumulating: parents, pullback: pullback(source, pair, hidden, keepsBefore ? before : nil))
  }

  /// x, down, up and the residual; nothing for those that there are not.
  private var parents: [Tensor] {
    let none = Tensor(uninitialized: [0])
    return [x, change?.down ?? none, change?.up ?? none, finish.residual ?? none]
  }

  private func pullback(
    _ source: Tensor, _ pair: PackedChange?, _ hidden: Tensor?, _ before: Tensor?
  ) -> Node.Pullback {
    let (inputs, outputs, matrix) = (inputs, outputs, matrix)
    let (rows, sourceShape) = (source.count / max(1, inputs), source.shape)
    let wants = parents.map(\.isRecorded)
    let kept = wants[1] ? source : nil
    let (gate, rowsPerGate, activation) = (finish.gate, finish.rowsPerGate, finish.activation)
    return { gradient, sums in
      let upstream = gradient.contiguous()
      let slopes = before == nil && gate == nil ? upstream : Tensor(uninitialized: upstream.shape)
      let dh = pair.map { Tensor(uninitialized: [rows, $0.stride]) }
      let dx = wants[0] ? Tensor.target(&sums[0], shape: sourceShape) : nil
      let (up, down) = (pair?.upPlain(), wants[0] ? pair?.downPlain() : nil)
      FlopCounter.add(
        2 * Double(rows) * Double((wants[0] ? inputs : 0) + (pair?.rank ?? 0)) * Double(outputs))
      let gates = gate?.base
      Panels.forRows(rows, work: inputs * outputs) { first, count in
        let du = slopes.base + first * outputs
        var dy = UnsafePointer(upstream.base + first * outputs)
        if let gates {
          for row in 0..<count {
            let factors = gates + (first + row) / rowsPerGate * outputs
            kernels.mul(du + row * outputs, dy + row * outputs, factors, outputs)
          }
          dy = UnsafePointer(du)
        }
        if let before { activation.applyGradient(du, before.base + first * outputs, dy, count * outputs) }
        var second: Panels.Term?
        if let pair, let dh, let up {
          let target = dh.base + first * pair.stride
          Panels.multiply(
            to: target, stride: pair.stride, rows: count, columns: pair.stride, scale: pair.scale,
            Panels.Term(rows: UnsafePointer(du), stride: outputs, panels: up))
          second = down.map { Panels.Term(rows: UnsafePointer(target), stride: pair.stride, panels: $0) }
        }
        if let dx {
          Panels.multiply(
            to: dx.tensor.base + first * inputs, stride: inputs, rows: count, columns: inputs,
            adding: dx.accumulates,
            Panels.Term(rows: UnsafePointer(du), stride: outputs, panels: matrix.backward), second)
        }
      }
      if let dx { sums[0] = dx.tensor }
      if let pair, let kept, let dh {
        let (sum, accumulates) = Tensor.target(&sums[1], shape: [pair.rank, inputs])
        Panels.multiplyTransposed(
          to: sum.base, rows: pair.rank, columns: inputs, depth: rows, adding: accumulates, dh.base,
          stride: pair.stride, kept.base)
        sums[1] = sum
      }
      if let pair, let hidden, wants[2] {
        let turned = Tensor(uninitialized: [pair.rank, outputs])
        Panels.multiplyTransposed(
          to: turned.base, rows: pair.rank, columns: outputs, depth: rows, adding: false, hidden.base,
          stride: pair.stride, slopes.base)
        Tensor.accumulate(turned.permuted([1, 0]).contiguous(), into: &sums[2])
      }
      keepAlive(slopes, dh, before, hidden, kept, gate)
      if wants[3] { Tensor.accumulate(upstream, into: &sums[3]) }
    }
  }
}

/// A low-rank change with its matrices contiguous, for products with panels. Sums of `rank` terms are kept in rows of
/// whole panels.
private struct PackedChange: Sendable {
  let down: Tensor
  let up: Tensor
  let scale: Float
  let rank: Int
  /// Floats of a row of `rank` numbers.
  let stride: Int

  init(_ change: LowRankChange) {
    (down, up) = (change.down.detached().contiguous(), change.up.detached().contiguous())
    (scale, rank) = (change.scale, down.shape[0])
    stride = ck_packed_keys(rank)
  }

  func downTransposed() -> Panels { Panels(storage: Panels.transposed(down), depth: down.shape[1]) }
  func downPlain() -> Panels { Panels(storage: Panels.plain(down), depth: rank) }
  func upTransposed() -> Panels { Panels(storage: Panels.transposed(up), depth: rank) }
  func upPlain() -> Panels { Panels(storage: Panels.plain(up), depth: up.shape[0]) }
}
