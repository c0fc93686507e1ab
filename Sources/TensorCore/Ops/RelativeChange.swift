extension Tensor {
  /// `mean |self - other| / mean |other|` for every entry of the first axis; both of one shape.
  ///
  /// Sums are cut by shape alone, so the result is the same for any number of threads. An entry of `other` that is
  /// all zero gives infinity, or 0 where `self` is zero too.
  package func relativeChange(from other: Tensor) -> [Float] {
    precondition(shape == other.shape && rank > 0, "comparing \(shape) with \(other.shape)")
    let entries = shape[0]
    guard count > 0 else { return [Float](repeating: 0, count: entries) }
    let (a, b) = (contiguous(), other.contiguous())
    let length = count / entries
    let pieces = (length + elementwiseChunk - 1) / elementwiseChunk
    var sums = [(change: Double, size: Double)](repeating: (0, 0), count: entries * pieces)
    sums.withUnsafeMutableBufferPointer { sums in
      nonisolated(unsafe) let sums = sums
      parallelFor(entries * pieces) { task in
        let start = task / pieces * length + task % pieces * elementwiseChunk
        let end = min(start + elementwiseChunk, (task / pieces + 1) * length)
        var (change, size) = (0.0, 0.0)
        for at in start..<end {
          let value = b.base[at]
          change += Double(abs(a.base[at] - value))
          size += Double(abs(value))
        }
        sums[task] = (change, size)
      }
    }
    keepAlive(a)
    keepAlive(b)
    return (0..<entries).map { entry in
      let own = sums[entry * pieces..<(entry + 1) * pieces]
      let (change, size) = own.reduce((0, 0)) { ($0.0 + $1.change, $0.1 + $1.size) }
      return change == 0 ? 0 : Float(change / size)
    }
  }
}
