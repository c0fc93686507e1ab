import CKernels

extension Tensor {
  /// The gate of a feed-forward layer: `[…, 2 n]` to `[…, n]`, the first half of every row times the GELU (by the error
  /// function) of the second.
  public func geglu() -> Tensor {
    let width = (shape.last ?? 0) / 2
    precondition(shape.last == 2 * width, "geglu of \(shape)")
    if isRecorded { return gegluRecorded() }
    let source = contiguous()
    let result = Tensor(uninitialized: shape.dropLast() + [width])
    forRows(count / max(1, 2 * width), width: 2 * width) { first, rows in
      for row in first..<first + rows {
        let from = source.base + row * 2 * width
        kernels.geglu(result.base + row * width, from, from + width, width)
      }
    }
    keepAlive(source)
    return result
  }
}
