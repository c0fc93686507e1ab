import TensorCore

// Norms and products of updates `scale * B A` from small Gram matrices: no `[out, in]` matrix is ever made.

extension LayerUpdate.Change {
  /// The Frobenius norm of dW: `‖BA‖² = tr((BᵀB)(AAᵀ))`.
  package var norm: Double { max(0, inner(self)).squareRoot() }

  /// The Frobenius product of two changes of one layer.
  func inner(_ other: LayerUpdate.Change) -> Double {
    switch (self, other) {
    case (.lowRank(let a), .lowRank(let b)):
      // tr((B_bᵀB_a)(A_aA_bᵀ))
      let ups = Tensor.linear(b.up.transposed, weight: a.up.transposed)
      let downs = Tensor.linear(b.down, weight: a.down)
      return Double(a.scale) * Double(b.scale) * ups.dot(downs)
    case (.lowRank(let pair), .full(let full)), (.full(let full), .lowRank(let pair)):
      return Double(pair.scale) * Tensor.linear(pair.up.transposed, weight: full.transposed).dot(pair.down)
    case (.full(let a), .full(let b)): return a.dot(b)
    }
  }
}

extension LoRAPair {
  /// The orthonormal input directions, `[k, in]`, that hold `share` of the squared norm of BA, the strongest first.
  func mainDirections(share: Double) -> Tensor? {
    // A = L Q with orthonormal rows Q, from the eigenvectors of AAᵀ; then those of (BL)ᵀ(BL).
    let inner = Tensor.linear(down, weight: down)
    let gram = SymmetricEigen(inner.doubles, count: rank)
    let kept = gram.values.indices.filter { gram.values[$0] > 1e-12 * max(gram.values[0], 1e-300) }
    guard !kept.isEmpty, gram.values[0] > 0 else { return nil }
    let ups = Tensor.linear(up.transposed, weight: up.transposed).doubles
    var small = [Double](repeating: 0, count: kept.count * kept.count)
    for (row, i) in kept.enumerated() {
      let image = (0..<rank).map { p in
        (0..<rank).reduce(0.0) { $0 + ups[p * rank + $1] * gram.vectors[i][$1] }
      }
      for (column, j) in kept.enumerated() {
        let product = (0..<rank).reduce(0.0) { $0 + image[$1] * gram.vectors[j][$1] }
        small[row * kept.count + column] = product * (gram.values[i] * gram.values[j]).squareRoot()
      }
    }
    let eigen = SymmetricEigen(small, count: kept.count)
    let total = eigen.values.reduce(0) { $0 + max(0, $1) }
    guard total > 0 else { return nil }
    var rows: [Float] = []
    var (sum, count) = (0.0, 0)
    while count < kept.count, sum < share * total {
      sum += max(0, eigen.values[count])
      // Direction = Σ w_i σ_i^{-1/2} u_iᵀ A.
      for p in 0..<rank {
        var weight = 0.0
        for (row, i) in kept.enumerated() {
          weight += eigen.vectors[count][row] * gram.vectors[i][p] / gram.values[i].squareRoot()
        }
        rows.append(Float(weight))
      }
      count += 1
    }
    return Tensor.linear(Tensor(rows, shape: [count, rank]), weight: down.transposed)
  }

  /// This pair without what it does along orthonormal input directions `[k, in]`.
  func projected(outOf directions: Tensor) -> LoRAPair {
    let along = Tensor.linear(down, weight: directions)  // [r, k]
    let part = Tensor.linear(along, weight: directions.transposed)  // [r, in]
    return LoRAPair(down: down - part, up: up, scale: scale)
  }
}

extension Tensor {
  /// A matrix with rows and columns exchanged.
  var transposed: Tensor { permuted([1, 0]).contiguous() }

  fileprivate var doubles: [Double] { array().map(Double.init) }

  /// The sum of the products of elements.
  fileprivate func dot(_ other: Tensor) -> Double {
    withFloats { a in
      other.withFloats { b in
        var sum = 0.0
        for index in a.indices { sum += Double(a[index]) * Double(b[index]) }
        return sum
      }
    }
  }
}
