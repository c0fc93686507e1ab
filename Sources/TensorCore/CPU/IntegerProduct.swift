import CKernels

/// Linear layers over 8-bit weights: the activations are quantised row by row while the layer runs, the integer
/// sums are exact, and scales, bias and activation follow in one pass.
///
/// Sums of integers do not depend on their order, so results have the same bytes for any cut.
struct IntegerProduct {
  let matrix: NarrowMatrix
  /// `[n]`: what a weight of 1 in this output channel stands for.
  let scales: Tensor
  /// `[n]` 32-bit integers: 128 times the sum of the channel's weights, for products with unsigned numbers.
  let offsets: Storage?

  /// Columns and terms that one task takes at a time: a panel of 16-bit numbers that fits the level 2 cache.
  private static let columns = 64
  private static let depth = 1536
  private static let rowsPerTask = 1280

  /// `x` is `[m, k]` in f32, dense.
  func run(
    _ x: UnsafePointer<Float>, m: Int, to result: UnsafeMutablePointer<Float>, finish: LinearFinish
  ) {
    guard m > 0, matrix.n > 0 else { return }
    if offsets != nil, multiply(x, m: m, to: result, finish: finish) { return }
    let (n, k) = (matrix.n, matrix.k)
    FlopCounter.add(2 * Double(m) * Double(n) * Double(k))
    let stride = (k + 1) & ~1
    let narrow = Storage(count: m * stride / 2 + 1)
    let rowScales = Storage(count: m)
    let numbers = UnsafeMutableRawPointer(narrow.floats).assumingMemoryBound(to: Int16.self)
    forRows(m, width: k) { first, rows in
      for row in first..<first + rows {
        rowScales.floats[row] = kernels.quantize_s16(numbers + row * stride, x + row * k, k)
        if stride > k { numbers[row * stride + k] = 0 }
      }
    }
    let plain = matrix.plain()
    let weights = UnsafeRawPointer(plain.floats).assumingMemoryBound(to: Int8.self)
    let columnTasks = (n + Self.columns - 1) / Self.columns
    let rowTasks = (m + Self.rowsPerTask - 1) / Self.rowsPerTask
    parallelFor(rowTasks * columnTasks) { task in
      let row = task % rowTasks * Self.rowsPerTask
      let column = task / rowTasks * Self.columns
      let rows = row..<min(m, row + Self.rowsPerTask)
      let columns = column..<min(n, column + Self.columns)
      let panels = Storage(count: Self.columns * Self.depth / 2)
      let packed = UnsafeMutableRawPointer(panels.floats).assumingMemoryBound(to: Int16.self)
      let sums = UnsafeMutableRawPointer(result).assumingMemoryBound(to: Int32.self)
      for first in Swift.stride(from: 0, to: k, by: Self.depth) {
        let terms = min(Self.depth, k - first)
        kernels.pack_s8(packed, weights + column * k + first, k, columns.count, terms)
        kernels.multiply_s16(
          sums + row * n + column, n, numbers + row * stride + first, stride, packed, rows.count,
          columns.count,
          terms, first == 0 ? 0 : 1)
      }
      keepAlive(panels)
      for row in rows {
        complete(result, row: row, columns: columns, scale: rowScales.floats[row], offsets: nil, finish)
      }
    }
    keepAlive(narrow, rowScales, plain)
  }

  /// The same by oneDNN, whose left operand is unsigned: 128 is added to every number, and what that adds to the
  /// sums is taken away again.
  private func multiply(
    _ x: UnsafePointer<Float>, m: Int, to result: UnsafeMutablePointer<Float>, finish: LinearFinish
  ) -> Bool {
    let (n, k) = (matrix.n, matrix.k)
    let rowScales = Storage(count: m)
    let done = matrix.multiply(m: m, to: result) { rows, target in
      let numbers = target.assumingMemoryBound(to: UInt8.self)
      for (index, row) in rows.enumerated() {
        rowScales.floats[row] = kernels.quantize_u8(numbers + index * k, x + row * k, k)
      }
    } finish: { rows in
      for row in rows {
        complete(result, row: row, columns: 0..<n, scale: rowScales.floats[row], offsets: offsets, finish)
      }
    }
    keepAlive(rowScales)
    return done
  }

  /// Turns the sums of a row into the layer's result, in place.
  private func complete(
    _ result: UnsafeMutablePointer<Float>, row: Int, columns: Range<Int>, scale: Float, offsets: Storage?,
    _ finish: LinearFinish
  ) {
    let target = result + row * matrix.n + columns.lowerBound
    let integers = { (floats: UnsafeMutablePointer<Float>) in
      UnsafeRawPointer(floats).assumingMemoryBound(to: Int32.self)
    }
    kernels.dequantize(
      target, integers(target), offsets.map { integers($0.floats + columns.lowerBound) }, scale,
      scales.base + columns.lowerBound, finish.bias.map { UnsafePointer($0.base + columns.lowerBound) },
      finish.activation.code, columns.count)
    finish.add(target, width: matrix.n, row: row, columns: columns)
  }
}
