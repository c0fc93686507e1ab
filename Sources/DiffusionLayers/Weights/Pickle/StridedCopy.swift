import TensorCore

/// Copies a tensor out of a storage in row-major order, in pieces.
struct StridedCopy {
  let source: ByteSource
  let tensor: TorchTensor
  /// Where the storage lies in the file; the tensor has been checked against it.
  let storage: Range<Int>

  private var size: Int { tensor.dtype.byteSize }
  private var first: Int { storage.lowerBound + tensor.byteOffset }

  /// Writes the elements. `moved` is told the bytes of each piece; what it throws ends the copy.
  func write(to file: inout AtomicFile, moved: (Int) throws(WeightsError) -> Void) throws(WeightsError) {
    guard tensor.byteCount > 0 else { return }
    if isContiguous {
      try copyRun(to: &file, moved)
    } else {
      try gather(to: &file, moved)
    }
  }

  private var isContiguous: Bool {
    var expected = 1
    for (extent, stride) in zip(tensor.shape, tensor.strides).reversed() where extent != 1 {
      if stride != expected { return false }
      expected *= extent
    }
    return true
  }

  private func copyRun(
    to file: inout AtomicFile, _ moved: (Int) throws(WeightsError) -> Void
  ) throws(WeightsError) {
    let piece = 1 << 18
    let buffer = UnsafeMutableRawBufferPointer.allocate(
      byteCount: min(piece, tensor.byteCount), alignment: 64)
    defer { buffer.deallocate() }
    for start in stride(from: 0, to: tensor.byteCount, by: piece) {
      let part = UnsafeMutableRawBufferPointer(rebasing: buffer[..<min(piece, tensor.byteCount - start)])
      try source.read(at: first + start, into: part)
      try file.write(UnsafeRawBufferPointer(part))
      try moved(part.count)
    }
  }

  /// Fills slabs of the result. Within a slab the storage is read along the dimension in which it is densest,
  /// so that a transposed matrix is not read number by number.
  private func gather(
    to file: inout AtomicFile, _ moved: (Int) throws(WeightsError) -> Void
  ) throws(WeightsError) {
    let shape = tensor.shape
    let inner = shape.contiguousStrides
    // A slab takes no more memory than the storage, or half a mebibyte.
    let limit = max(1 << 19, min(1 << 24, storage.count)) / size
    let axis = inner.firstIndex { $0 <= limit } ?? shape.count - 1
    let rows = max(1, min(shape[axis], limit / inner[axis]))
    let slab = UnsafeMutableRawBufferPointer.allocate(byteCount: rows * inner[axis] * size, alignment: 64)
    defer { slab.deallocate() }
    let outer = shape[..<axis].reduce(1, *)
    for prefix in 0..<outer {
      let offset = place(prefix, shape: shape[..<axis], strides: tensor.strides[..<axis])
      for row in stride(from: 0, to: shape[axis], by: rows) {
        let count = min(rows, shape[axis] - row)
        let part = UnsafeMutableRawBufferPointer(rebasing: slab[..<(count * inner[axis] * size)])
        try fill(
          part, shape: [count] + shape[(axis + 1)...], strides: Array(tensor.strides[axis...]),
          offset: offset + row * tensor.strides[axis])
        try file.write(UnsafeRawBufferPointer(part))
        try moved(part.count)
      }
    }
  }

  /// Fills `target` with a box of the tensor: its shape, its strides in the storage, the place of its first
  /// element.
  private func fill(
    _ target: UnsafeMutableRawBufferPointer, shape: [Int], strides: [Int], offset: Int
  ) throws(WeightsError) {
    let inner = shape.contiguousStrides
    let dense = strides.indices.filter { strides[$0] > 0 && shape[$0] > 1 }.min { strides[$0] < strides[$1] }
    var others = shape
    if let dense { others[dense] = 1 }
    let (extent, step) = dense.map { (shape[$0], strides[$0]) } ?? (1, 1)
    let targetStep = (dense.map { inner[$0] } ?? 0) * size
    // Neighbours are read together with the gaps between them while the gaps are small.
    let together = step <= 16 ? max(1, min(extent, (1 << 18) / (step * size))) : 1
    let line = UnsafeMutableRawBufferPointer.allocate(
      byteCount: ((together - 1) * step + 1) * size, alignment: 64)
    defer { line.deallocate() }
    for index in 0..<others.reduce(1, *) {
      let from = offset + place(index, shape: others[...], strides: strides[...])
      let to = place(index, shape: others[...], strides: inner[...]) * size
      for start in stride(from: 0, to: extent, by: together) {
        let count = min(together, extent - start)
        let part = UnsafeMutableRawBufferPointer(rebasing: line[..<(((count - 1) * step + 1) * size)])
        try source.read(at: first + (from + start * step) * size, into: part)
        for element in 0..<count {
          UnsafeMutableRawBufferPointer(
            rebasing: target[
              (to + (start + element) * targetStep)..<(to + (start + element) * targetStep + size)]
          ).copyMemory(
            from: UnsafeRawBufferPointer(
              rebasing: part[(element * step * size)..<((element * step + 1) * size)]))
        }
      }
    }
  }

  /// The place of the `index`-th element, row by row, of a box.
  private func place(_ index: Int, shape: ArraySlice<Int>, strides: ArraySlice<Int>) -> Int {
    var (rest, place) = (index, 0)
    for (extent, stride) in zip(shape, strides).reversed() {
      place += rest % extent * stride
      rest /= extent
    }
    return place
  }
}
