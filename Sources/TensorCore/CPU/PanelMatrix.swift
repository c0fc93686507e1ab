import CKernels

/// A frozen matrix `[out, in]` packed once for the products of a training: panels of sixteen columns, for rows times its
/// transpose and for gradients times itself.
///
/// The kernels read the other operand where it lies, so that samples side by side on different threads pack nothing.
final class PanelMatrix: Sendable {
  let outputs: Int
  let inputs: Int
  private let transposed: Storage
  private let plain: Storage

  init(_ matrix: Tensor) {
    let dense = matrix.detached().contiguous()
    (outputs, inputs) = (dense.shape[0], dense.shape[1])
    transposed = Panels.transposed(dense)
    plain = Panels.plain(dense)
  }

  /// For `x · Wᵀ`: `[in, out]`.
  var forward: Panels { Panels(storage: transposed, depth: inputs) }
  /// For `dy · W`: `[out, in]`.
  var backward: Panels { Panels(storage: plain, depth: outputs) }
}

/// A right-hand operand in panels of sixteen columns.
struct Panels: Sendable {
  let storage: Storage
  /// Terms of each sum.
  let depth: Int

  /// The transpose of a contiguous matrix `[columns, depth]`.
  static func transposed(_ matrix: Tensor) -> Storage {
    let (rows, depth) = (matrix.shape[0], matrix.shape[1])
    let result = Storage(count: max(1, ck_packed_keys(rows) * depth))
    kernels.pack_transposed(result.floats, matrix.base, depth, rows, depth)
    keepAlive(matrix)
    return result
  }

  /// A contiguous matrix `[depth, columns]` as it is.
  static func plain(_ matrix: Tensor) -> Storage {
    let (depth, columns) = (matrix.shape[0], matrix.shape[1])
    let result = Storage(count: max(1, ck_packed_keys(columns) * depth))
    kernels.pack_plain(result.floats, matrix.base, columns, depth, columns)
    keepAlive(matrix)
    return result
  }

  /// Rows times panels: one term of a product.
  struct Term {
    let rows: UnsafePointer<Float>
    /// Floats from one row to the next.
    let stride: Int
    let panels: Panels

    fileprivate var raw: CKPanelTerm {
      CKPanelTerm(
        rows: rows, lda: stride, panels: UnsafePointer(panels.storage.floats), depth: panels.depth)
    }
  }

  /// `result[rows, columns] (+)= scale * (first + second) + bias`, on the calling thread.
  static func multiply(
    to result: UnsafeMutablePointer<Float>, stride: Int, rows: Int, columns: Int,
    bias: UnsafePointer<Float>? = nil, scale: Float = 1, adding: Bool = false, _ first: Term,
    _ second: Term? = nil
  ) {
    var product = CKPanelProduct()
    (product.result, product.stride, product.rows, product.columns) = (result, stride, rows, columns)
    (product.bias, product.scale, product.adds) = (bias, scale, adding ? 1 : 0)
    product.term_count = second == nil ? 1 : 2
    product.terms.0 = first.raw
    if let second { product.terms.1 = second.raw }
    kernels.multiply_panels(&product)
    keepAlive(first.panels.storage, second?.panels.storage)
  }

  /// Calls `body(firstRow, rowCount)` for fixed pieces of `rows` rows that take `work` products each, in parallel.
  static func forRows(_ rows: Int, work: Int, _ body: (Int, Int) -> Void) {
    let perTask = max(48, (1 << 22) / max(1, work) / 12 * 12)
    parallelFor((rows + perTask - 1) / perTask) { task in
      let first = task * perTask
      body(first, min(perTask, rows - first))
    }
  }

  /// `result[rows, columns] (+)= aᵀ · b` of `a` `[depth, rows]`, `stride` floats apart, and dense `b` `[depth, columns]`.
  static func multiplyTransposed(
    to result: UnsafeMutablePointer<Float>, rows: Int, columns: Int, depth: Int, adding: Bool,
    _ a: UnsafePointer<Float>, stride: Int, _ b: UnsafePointer<Float>
  ) {
    FlopCounter.add(2 * Double(rows) * Double(columns) * Double(depth))
    let piece = 128
    parallelFor((columns + piece - 1) / piece) { task in
      let first = task * piece
      kernels.multiply_transposed(
        result + first, columns, a, stride, b + first, columns, rows, min(piece, columns - first), depth,
        adding ? 1 : 0)
    }
  }
}
