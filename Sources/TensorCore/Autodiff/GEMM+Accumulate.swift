extension GEMM {
  /// `c[m, n] (+)= alpha * a · b`, both operands possibly transposed, in pieces that depend on the shape alone;
  /// `finish` post-processes a piece (rows and columns) while it is hot.
  ///
  /// Small products stay whole: a training runs its samples side by side, one thread each, and every piece would pack
  /// the same matrix again.
  static func run(
    adding: Bool, alpha: Float = 1, transposeA: Bool = false, transposeB: Bool, m: Int, n: Int, k: Int,
    a: UnsafePointer<Float>, lda: Int, b: UnsafePointer<Float>, ldb: Int, c: UnsafeMutablePointer<Float>,
    ldc: Int, finish: (_ rows: Range<Int>, _ columns: Range<Int>) -> Void = { _, _ in }
  ) {
    guard m > 0, n > 0 else { return }
    FlopCounter.add(2 * Double(m) * Double(n) * Double(k))
    let pieces = max(1, min(16, m * n / (1 << 17) * k / 64))
    let cutsRows = m >= n
    let extent = cutsRows ? m : n
    let size = ((extent + pieces - 1) / pieces + 15) / 16 * 16
    parallelFor((extent + size - 1) / size) { task in
      let start = task * size
      let length = min(size, extent - start)
      let (row, rows) = cutsRows ? (start, length) : (0, m)
      let (column, columns) = cutsRows ? (0, n) : (start, length)
      serial(
        transposeA: transposeA, transposeB: transposeB, m: rows, n: columns, k: k, alpha: alpha,
        a: transposeA ? a + row : a + row * lda, lda: lda, b: transposeB ? b + column * ldb : b + column,
        ldb: ldb, beta: adding ? 1 : 0, c: c + row * ldc + column, ldc: ldc)
      finish(row..<row + rows, column..<column + columns)
    }
  }
}
