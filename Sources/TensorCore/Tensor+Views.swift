extension Tensor {
  /// The same elements under another shape; one extent may be -1. Copies only when the layout forces it.
  public func reshaped(_ newShape: [Int]) -> Tensor {
    var target = newShape
    if let free = target.firstIndex(of: -1) {
      target[free] = 1
      target[free] = count / max(1, target.product)
    }
    precondition(target.product == count, "reshape of \(shape) to \(newShape)")
    let from = shape
    return recordedView(
      { source in
        let dense = source.contiguous()
        return Tensor(
          storage: dense.storage, shape: target, strides: target.contiguousStrides, offset: dense.offset)
      }, pullback: { $0.reshaped(from) })
  }

  /// Dimensions in another order: result dimension `i` is dimension `order[i]` of this tensor.
  public func permuted(_ order: [Int]) -> Tensor {
    precondition(order.sorted() == Array(0..<rank), "permutation \(order) of \(shape)")
    var inverse = order
    for (new, old) in order.enumerated() { inverse[old] = new }
    return recordedView(
      { source in
        Tensor(
          storage: source.storage, shape: order.map { source.shape[$0] },
          strides: order.map { source.strides[$0] },
          offset: source.offset)
      }, pullback: { [inverse] in $0.permuted(inverse) })
  }

  /// `length` entries of dimension `axis` from `start` on.
  public func narrow(_ axis: Int, from start: Int, length: Int) -> Tensor {
    precondition(
      start >= 0 && length >= 0 && start + length <= shape[axis],
      "narrow \(start)..<\(start + length) of axis \(axis) in \(shape)")
    var newShape = shape
    newShape[axis] = length
    let part = Tensor(
      storage: storage, shape: newShape, strides: strides, offset: offset + start * strides[axis])
    return part.recorded(narrowing: self, axis, from: start)
  }

  /// Entry `index` of dimension `axis`, which disappears.
  public func select(_ axis: Int, _ index: Int) -> Tensor {
    let part = narrow(axis, from: index, length: 1)
    var newShape = part.shape
    var newStrides = part.strides
    newShape.remove(at: axis)
    newStrides.remove(at: axis)
    return part.recordedView(
      {
        Tensor(storage: $0.storage, shape: newShape, strides: newStrides, offset: $0.offset)
      }, pullback: { [shape = part.shape] in $0.reshaped(shape) })
  }

  /// Repeats dimensions of extent 1 up to `newShape` without copying; leading dimensions may be added.
  public func expanded(_ newShape: [Int]) -> Tensor {
    let lead = newShape.count - rank
    precondition(lead >= 0, "expand of \(shape) to \(newShape)")
    var newStrides = [Int](repeating: 0, count: lead)
    for axis in 0..<rank {
      let extent = newShape[axis + lead]
      precondition(shape[axis] == extent || shape[axis] == 1, "expand of \(shape) to \(newShape)")
      newStrides.append(shape[axis] == extent ? strides[axis] : 0)
    }
    return recordedView(
      { Tensor(storage: $0.storage, shape: newShape, strides: newStrides, offset: $0.offset) },
      pullback: { [shape] in $0.reduced(to: shape) })
  }

  /// The same elements in row-major order; `self` when they are so already.
  public func contiguous() -> Tensor {
    if isContiguous {
      return Tensor(
        storage: storage, shape: shape, strides: shape.contiguousStrides, offset: offset, node: node)
    }
    return recordedView({ $0.copied() }, pullback: { $0 })
  }

  /// A row-major copy.
  private func copied() -> Tensor {
    let result = Tensor(uninitialized: shape)
    guard count > 0 else { return result }
    // Neighbouring dimensions that lie densely behind each other are walked as one.
    var extents: [Int] = []
    var steps: [Int] = []
    for (extent, stride) in zip(shape, strides) where extent != 1 {
      if let last = steps.last, let lastExtent = extents.last, last == stride * extent {
        extents[extents.count - 1] = lastExtent * extent
        steps[steps.count - 1] = stride
      } else {
        extents.append(extent)
        steps.append(stride)
      }
    }
    let inner = extents.popLast() ?? 1
    let innerStep = steps.popLast() ?? 1
    let outer = extents.product
    let source = base
    let target = result.base
    let rowsPerTask = max(1, 16384 / inner)
    parallelFor((outer + rowsPerTask - 1) / rowsPerTask) { task in
      let first = task * rowsPerTask
      let last = min(outer, first + rowsPerTask)
      var index = [Int](repeating: 0, count: extents.count)
      var position = 0
      var rest = first
      for axis in stride(from: extents.count - 1, through: 0, by: -1) {
        index[axis] = rest % extents[axis]
        rest /= extents[axis]
        position += index[axis] * steps[axis]
      }
      for row in first..<last {
        let from = source + position
        let to = target + row * inner
        if innerStep == 1 {
          to.update(from: from, count: inner)
        } else {
          for i in 0..<inner { to[i] = from[i * innerStep] }
        }
        var axis = extents.count - 1
        while axis >= 0 {
          index[axis] += 1
          position += steps[axis]
          if index[axis] < extents[axis] { break }
          position -= index[axis] * steps[axis]
          index[axis] = 0
          axis -= 1
        }
      }
    }
    keepAlive(self, result)
    return result
  }

  /// Joins tensors along `axis`; all other extents are equal.
  public static func concatenated(_ parts: [Tensor], axis: Int) -> Tensor {
    precondition(!parts.isEmpty, "concatenation of nothing")
    var shape = parts[0].shape
    shape[axis] = 0
    for part in parts {
      var other = part.shape
      shape[axis] += other[axis]
      other[axis] = shape[axis]
      precondition(other == shape, "concatenation of \(parts.map(\.shape)) along \(axis)")
    }
    let result = Tensor(uninitialized: shape)
    let outer = shape[..<axis].reduce(1, *)
    let rowCount = shape[axis...].reduce(1, *)
    var start = 0
    for part in parts {
      let dense = part.detached().contiguous()
      let length = dense.shape[axis...].reduce(1, *)
      let rowsPerTask = max(1, 65536 / max(1, length))
      let at = start
      parallelFor((outer + rowsPerTask - 1) / rowsPerTask) { task in
        for i in task * rowsPerTask..<min(outer, (task + 1) * rowsPerTask) {
          (result.base + i * rowCount + at).update(from: dense.base + i * length, count: length)
        }
      }
      keepAlive(dense)
      start += length
    }
    return result.recorded(joining: parts, axis: axis)
  }
}
