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

  /// Rows of one task: at most 1280, and as many tasks as four threads can share; a multiple of the kernel's six.
  private static func rowsPerTask(_ m: Int, columnTasks: Int) -> Int {
    let pieces = max((m + 1279) / 1280, min(m / 96, (7 + columnTasks) / columnTasks))
    return ((m + max(1, pieces) - 1) / max(1, pieces) + 5) / 6 * 6
  }

  /// `x` is `[m, k]` in f32, dense.
  func run(
    _ x: UnsafePointer<Float>, m: Int, to result: UnsafeMutablePointer<Float>, finish: LinearFinish
  ) {
    guard m > 0, matrix.n > 0 else { return }
    if offsets != nil, multiply(x, m: m, to: result, finish: finish) { return }
    let (n, k) = (matrix.n, matrix.k)
    FlopCounter.add(2 * Double(m) * Double(n) * Double(k))
    let rowScales = Storage(count: m)
    let narrow = quantized(x, m: m, scales: rowScales.floats)
    let numbers = UnsafeRawPointer(narrow.floats).assumingMemoryBound(to: Int16.self)
    let plain = matrix.plain()
    let weights = UnsafeRawPointer(plain.floats).assumingMemoryBound(to: Int8.self)
    let sums = UnsafeMutableRawPointer(result).assumingMemoryBound(to: Int32.self)
    let columnTasks = (n + Self.columns - 1) / Self.columns
    let rowsPerTask = Self.rowsPerTask(m, columnTasks: columnTasks)
    let rowTasks = (m + rowsPerTask - 1) / rowsPerTask
    // Block by block of terms, so that all tasks read the same few megabytes of activations.
    for first in stride(from: 0, to: k, by: Self.depth) {
      let terms = min(Self.depth, k - first)
      let (block, width) = (numbers + first * m, (terms + 1) & ~1)
      parallelFor(rowTasks * columnTasks) { task in
        let row = task % rowTasks * rowsPerTask
        let column = task / rowTasks * Self.columns
        let rows = row..<min(m, row + rowsPerTask)
        let columns = column..<min(n, column + Self.columns)
        let panels = Storage(count: Self.columns * Self.depth / 2)
        let packed = UnsafeMutableRawPointer(panels.floats).assumingMemoryBound(to: Int16.self)
        kernels.pack_s8(packed, weights + column * k + first, k, columns.count, terms)
        kernels.multiply_s16(
          sums + row * n + column, n, block + row * width, width, packed, rows.count, columns.count, terms,
          first == 0 ? 0 : 1)
        keepAlive(panels)
        guard first + terms == k else { return }
        for row in rows {
          complete(result, row: row, columns: columns, scale: rowScales.floats[row], offsets: nil, finish)
        }
      }
    }
    keepAlive(narrow, rowScales, plain)
  }

  /// The rows of `x` as 16-bit integers in -127…127, in blocks of `depth` terms: the rows' terms of one block lie
  /// one behind the other, each filled to an even number of them.
  private func quantized(_ x: UnsafePointer<Float>, m: Int, scales: UnsafeMutablePointer<Float>) -> Storage {
    let k = matrix.k
    let result = Storage(count: m * (k + 1) / 2 + 1)
    let numbers = UnsafeMutableRawPointer(result.floats).assumingMemoryBound(to: Int16.self)
    forRows(m, width: k) { start, rows in
      let line = Storage(count: k / 2 + 1)
      let terms = UnsafeMutableRawPointer(line.floats).assumingMemoryBound(to: Int16.self)
      for row in start..<start + rows {
        scales[row] = kernels.quantize_s16(terms, x + row * k, k)
        terms[k] = 0
        for first in stride(from: 0, to: k, by: Self.depth) {
          let width = (min(Self.depth, k - first) + 1) & ~1
          (numbers + first * m + row * width).update(from: terms + first, count: width)
        }
      }
      keepAlive(line)
    }
    return result
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
