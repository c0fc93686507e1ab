/// Eigenvalues and eigenvectors of a small symmetric matrix, by Jacobi's rotations.
struct SymmetricEigen {
  /// Falling.
  let values: [Double]
  /// Vector `i` belongs to value `i`; they are orthonormal.
  let vectors: [[Double]]

  /// - Parameter matrix: `count * count` numbers, rows after each other.
  init(_ matrix: [Double], count: Int) {
    precondition(matrix.count == count * count, "\(matrix.count) numbers for \(count) rows")
    var a = matrix
    var v = [Double](repeating: 0, count: count * count)
    for i in 0..<count { v[i * count + i] = 1 }
    let size = a.reduce(0) { $0 + $1 * $1 }
    for _ in 0..<40 {
      var off = 0.0
      for p in 0..<count { for q in 0..<p { off += a[p * count + q] * a[p * count + q] } }
      if off <= 1e-30 * size { break }
      for p in 0..<count {
        for q in (p + 1)..<max(p + 1, count) where a[p * count + q] != 0 {
          Self.rotate(&a, &v, p, q, count)
        }
      }
    }
    let order = (0..<count).sorted { (a[$0 * count + $0], -$0) > (a[$1 * count + $1], -$1) }
    values = order.map { a[$0 * count + $0] }
    vectors = order.map { column in (0..<count).map { v[$0 * count + column] } }
  }

  private static func rotate(_ a: inout [Double], _ v: inout [Double], _ p: Int, _ q: Int, _ n: Int) {
    let theta = (a[q * n + q] - a[p * n + p]) / (2 * a[p * n + q])
    let t = (theta >= 0 ? 1.0 : -1.0) / (abs(theta) + (theta * theta + 1).squareRoot())
    let c = 1 / (t * t + 1).squareRoot()
    let s = t * c
    for k in 0..<n {
      let (x, y) = (a[k * n + p], a[k * n + q])
      (a[k * n + p], a[k * n + q]) = (c * x - s * y, s * x + c * y)
    }
    for k in 0..<n {
      let (x, y) = (a[p * n + k], a[q * n + k])
      (a[p * n + k], a[q * n + k]) = (c * x - s * y, s * x + c * y)
    }
    for k in 0..<n {
      let (x, y) = (v[k * n + p], v[k * n + q])
      (v[k * n + p], v[k * n + q]) = (c * x - s * y, s * x + c * y)
    }
  }
}
