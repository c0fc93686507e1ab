import COpenBLAS

/// Matrix products on OpenBLAS, each call single-threaded inside our own cut.
///
/// The cut depends on the shape alone: OpenBLAS itself gives different bytes for different thread counts.
enum GEMM {
  private static let singleThreaded: Void = openblas_set_num_threads(1)

  /// One serial product: `c[m, n] = alpha * a · b (+ beta * c)` with row-major operands and leading
  /// dimensions.
  static func serial(
    transposeA: Bool = false, transposeB: Bool, m: Int, n: Int, k: Int, alpha: Float = 1,
    a: UnsafePointer<Float>, lda: Int, b: UnsafePointer<Float>, ldb: Int, beta: Float = 0,
    c: UnsafeMutablePointer<Float>, ldc: Int
  ) {
    guard m > 0, n > 0 else { return }
    _ = singleThreaded
    cblas_sgemm(
      CblasRowMajor, transposeA ? CblasTrans : CblasNoTrans, transposeB ? CblasTrans : CblasNoTrans, Int32(m),
      Int32(n), Int32(k), alpha, a, Int32(lda), b, Int32(ldb), beta, c, Int32(ldc))
  }

  /// Fixed pieces of an `m` by `n` result: rows where there are many, columns where there are few.
  static func tiles(m: Int, n: Int) -> (rows: Int, columns: Int) {
    if m >= 64 {
      return (max(32, (m + 15) / 16 + 15 & ~15), n)
    }
    return (m, max(64, (n + 7) / 8 + 15 & ~15))
  }

  /// `c[m, n] = a · b` in parallel; `finish` post-processes a finished piece (row and column range) while it
  /// is hot.
  static func run(
    transposeA: Bool = false, transposeB: Bool, m: Int, n: Int, k: Int,
    a: UnsafePointer<Float>, lda: Int, b: UnsafePointer<Float>, ldb: Int,
    c: UnsafeMutablePointer<Float>, ldc: Int,
    finish: (_ rows: Range<Int>, _ columns: Range<Int>) -> Void = { _, _ in }
  ) {
    guard m > 0, n > 0 else { return }
    FlopCounter.add(2 * Double(m) * Double(n) * Double(k))
    let (rowsPerTask, columnsPerTask) = tiles(m: m, n: n)
    let rowTasks = (m + rowsPerTask - 1) / rowsPerTask
    let columnTasks = (n + columnsPerTask - 1) / columnsPerTask
    parallelFor(rowTasks * columnTasks) { task in
      let row = task / columnTasks * rowsPerTask
      let column = task % columnTasks * columnsPerTask
      let rows = min(rowsPerTask, m - row)
      let columns = min(columnsPerTask, n - column)
      serial(
        transposeA: transposeA, transposeB: transposeB, m: rows, n: columns, k: k,
        a: transposeA ? a + row : a + row * lda, lda: lda,
        b: transposeB ? b + column * ldb : b + column, ldb: ldb,
        c: c + row * ldc + column, ldc: ldc)
      finish(row..<row + rows, column..<column + columns)
    }
  }
}
