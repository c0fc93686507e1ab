import CKernels
import COneDNN
import Synchronization

/// A matrix `[n, k]` of bfloat16 or 8-bit numbers that takes part in products of that format.
///
/// Shared by every model built from it. Where oneDNN multiplies, the first product packs it into oneDNN's layout
/// and the row-major copy goes; adapters beside the matrix change nothing, so other ones repack nothing.
final class NarrowMatrix: Sendable {
  let format: NarrowFormat
  let n: Int
  let k: Int
  private let state: Mutex<State>

  private enum State {
    case plain(Storage)
    case packed(Storage)
  }

  /// - Parameter plain: the numbers in row-major order.
  init(_ format: NarrowFormat, plain: Storage, n: Int, k: Int) {
    (self.format, self.n, self.k) = (format, n, k)
    state = Mutex(.plain(plain))
  }

  /// The numbers in row-major order: a copy where the matrix is packed.
  func plain() -> Storage {
    state.withLock { state in
      switch state {
      case .plain(let storage): return storage
      case .packed(let storage):
        guard let plan = MatMulPlan.shared(format, m: 160, n: n, k: k) else {
          preconditionFailure("a packed matrix without the plan that packed it")
        }
        return plan.unpacked(storage)
      }
    }
  }

  /// The numbers in the layout of a plan.
  private func packed(for plan: MatMulPlan) -> Storage {
    state.withLock { current in
      switch current {
      case .packed(let storage): return storage
      case .plain(let storage):
        let packed = plan.packed(storage)
        current = .packed(packed)
        return packed
      }
    }
  }

  /// Rows of the result that one task computes: an even share for four threads.
  static func rowsPerTask(_ m: Int) -> Int {
    guard m >= 128 else { return max(1, m) }
    let pieces = ((m + 191) / 192 + 3) & ~3
    return ((m + pieces - 1) / pieces + 15) & ~15
  }

  /// `x · matrixᵀ` by oneDNN, `x` `[m, k]` in f32. For every piece of rows `prepare(rows, target)` writes them in
  /// the format of the product, dense, and `finish(rows, piece)` completes the result, which for integers holds
  /// 32-bit sums.
  /// - Returns: false, with nothing done, where oneDNN has no such product.
  func multiply(
    m: Int, to result: UnsafeMutablePointer<Float>,
    prepare: (Range<Int>, UnsafeMutableRawPointer) -> Void, finish: (Range<Int>) -> Void
  ) -> Bool {
    let rowsPerTask = Self.rowsPerTask(m)
    let tasks = (m + rowsPerTask - 1) / rowsPerTask
    let rest = m - (tasks - 1) * rowsPerTask
    guard let plan = MatMulPlan.shared(format, m: rowsPerTask, n: n, k: k),
      let last = rest == rowsPerTask ? plan : MatMulPlan.shared(format, m: rest, n: n, k: k)
    else { return false }
    FlopCounter.add(2 * Double(m) * Double(n) * Double(k))
    let matrix = packed(for: plan)
    let bytes = format == .bfloat16 ? 2 : 1
    parallelFor(tasks) { task in
      let rows = task * rowsPerTask..<min(m, (task + 1) * rowsPerTask)
      let source = Storage(count: rows.count * k * bytes / 4 + 1)
      prepare(rows, source.floats)
      (rows.count == rowsPerTask ? plan : last).run(source.floats, matrix, result + rows.lowerBound * n)
      keepAlive(source)
      finish(rows)
    }
    return true
  }
}
