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

  /// The right-hand operand: floats, or half-width numbers that each piece widens for itself.
  enum Operand {
    case floats(UnsafePointer<Float>)
    case halves(UnsafeRawPointer, DType)
  }

  /// The largest piece of a result on either side. OpenBLAS packs both operands of every call, `1 / rows + 1 /
  /// columns` of the arithmetic.
  private static let side = 768

  /// Sums of more terms are taken in pieces of so many, which stay in the cache.
  private static let depth = 1920

  /// Fixed pieces of an `m` by `n` result of sums of `k` terms: as square as may be, a multiple of four of them so
  /// that two or four threads end together, fewer for products that take no time.
  static func tiles(m: Int, n: Int, k: Int) -> (rows: Int, columns: Int) {
    let work = Double(m) * Double(n) * Double(k)
    let wanted = work < 0x1p19 ? 1 : work < 0x1p22 ? 2 : 4
    let least = (rows: (m + side - 1) / side, columns: (n + side - 1) / side)
    var best = (cost: Int.max, rows: least.rows, columns: least.columns)
    for rows in least.rows...least.rows + 3 where rows == least.rows || m / rows >= 32 {
      for columns in least.columns...least.columns + 3 where columns == least.columns || n / columns >= 32 {
        let pieces = rows * columns
        guard pieces % wanted == 0 || pieces >= 24 else { continue }
        let cost = columns * m + rows * n
        if cost < best.cost { best = (cost, rows, columns) }
      }
    }
    func extent(_ length: Int, _ pieces: Int) -> Int { ((length + pieces - 1) / pieces + 15) & ~15 }
    return (extent(m, best.rows), extent(n, best.columns))
  }

  /// `c[m, n] = a · b` in parallel; `finish` post-processes a finished piece (row and column range) while it
  /// is hot. Half-width numbers need `transposeB`; the result has the bytes of one with widened numbers.
  static func run(
    transposeA: Bool = false, transposeB: Bool, m: Int, n: Int, k: Int,
    a: UnsafePointer<Float>, lda: Int, b: Operand, ldb: Int,
    c: UnsafeMutablePointer<Float>, ldc: Int,
    finish: (_ rows: Range<Int>, _ columns: Range<Int>) -> Void = { _, _ in }
  ) {
    guard m > 0, n > 0 else { return }
    FlopCounter.add(2 * Double(m) * Double(n) * Double(k))
    let tile = tiles(m: m, n: n, k: k)
    let columnTasks = (n + tile.columns - 1) / tile.columns
    let depth = k > depth + depth / 2 ? depth : k
    // Neighbouring tasks share their columns of `b`.
    let rowTasks = (m + tile.rows - 1) / tile.rows
    parallelFor(rowTasks * columnTasks) { task in
      let row = task % rowTasks * tile.rows
      let column = task / rowTasks * tile.columns
      let rows = min(tile.rows, m - row)
      let columns = min(tile.columns, n - column)
      var widened: Storage?
      if case .halves = b { widened = Storage(count: columns * depth) }
      var first = 0
      repeat {
        let terms = min(depth, k - first)
        let from: UnsafePointer<Float>
        var leading = ldb
        switch b {
        case .floats(let floats):
          from = transposeB ? floats + column * ldb + first : floats + first * ldb + column
        case .halves(let halves, let format):
          guard let target = widened?.floats else { return }
          for index in 0..<columns {
            HalfConversion.widen(
              halves + 2 * ((column + index) * ldb + first), format, target + index * terms, terms)
          }
          (from, leading) = (UnsafePointer(target), terms)
        }
        serial(
          transposeA: transposeA, transposeB: transposeB, m: rows, n: columns, k: terms,
          a: transposeA ? a + first * lda + row : a + row * lda + first, lda: lda,
          b: from, ldb: leading, beta: first == 0 ? 0 : 1,
          c: c + row * ldc + column, ldc: ldc)
        first += terms
      } while first < k
      finish(row..<row + rows, column..<column + columns)
    }
  }
}
