import CKernels

extension Tensor {
  /// Sum, with broadcasting of extents 1.
  public static func + (a: Tensor, b: Tensor) -> Tensor {
    binary(a, b) { kernels.add($0, $1, $2, $3) }
      .recorded(from: [a, b]) {
        [aShape = a.shape, bShape = b.shape, wantsA = a.isRecorded, wantsB = b.isRecorded] gradient in
        [wantsA ? gradient.reduced(to: aShape) : nil, wantsB ? gradient.reduced(to: bShape) : nil]
      }
  }

  /// Difference, with broadcasting of extents 1.
  public static func - (a: Tensor, b: Tensor) -> Tensor {
    binary(a, b) { kernels.sub($0, $1, $2, $3) }
      .recorded(from: [a, b]) {
        [aShape = a.shape, bShape = b.shape, wantsA = a.isRecorded, wantsB = b.isRecorded] gradient in
        [wantsA ? gradient.reduced(to: aShape) : nil, wantsB ? (gradient * -1).reduced(to: bShape) : nil]
      }
  }

  /// Product, with broadcasting of extents 1.
  public static func * (a: Tensor, b: Tensor) -> Tensor {
    binary(a, b) { kernels.mul($0, $1, $2, $3) }
      .recorded(from: [a, b]) {
        // Each factor is kept only where the other one's gradient is wanted.
        [
          aShape = a.shape, bShape = b.shape, a = b.isRecorded ? a.detached() : nil,
          b = a.isRecorded ? b.detached() : nil
        ] gradient in
        [b.map { (gradient * $0).reduced(to: aShape) }, a.map { (gradient * $0).reduced(to: bShape) }]
      }
  }

  /// Product with a number.
  public static func * (a: Tensor, factor: Float) -> Tensor { a.affine(factor, 0) }

  /// Sum with a number.
  public static func + (a: Tensor, term: Float) -> Tensor { a.affine(1, term) }

  /// `self * scale + shift`.
  public func affine(_ scale: Float, _ shift: Float) -> Tensor {
    map { kernels.scale_shift($0, $1, scale, shift, $2) }.recorded(from: [self]) { [$0 * scale] }
  }

  /// `self + other * factor`, both of one shape.
  public func adding(_ other: Tensor, scaledBy factor: Float) -> Tensor {
    precondition(shape == other.shape, "adding \(other.shape) to \(shape)")
    return Tensor.binary(self, other) { kernels.add_scaled($0, $1, $2, factor, $3) }
      .recorded(from: [self, other]) { [wantsOther = other.isRecorded] in
        [$0, wantsOther ? $0 * factor : nil]
      }
  }

  /// `x + y * gate`: tokens `[B, L, D]` with one gate row `[B, 1, D]` per batch entry.
  public static func gatedAdd(_ x: Tensor, _ y: Tensor, gate: Tensor) -> Tensor {
    precondition(
      x.shape == y.shape && gate.shape == [x.shape[0], 1, x.shape[2]], "gate \(gate.shape) on \(x.shape)")
    if x.isRecorded || y.isRecorded || gate.isRecorded { return gatedAddRecorded(x, y, gate: gate) }
    let (length, width) = (x.shape[1], x.shape[2])
    let (a, b, g) = (x.contiguous(), y.contiguous(), gate.contiguous())
    let result = Tensor(uninitialized: x.shape)
    forRows(x.shape[0] * length, width: width) { first, rows in
      for row in first..<first + rows {
        let at = row * width
        kernels.add_gated(result.base + at, a.base + at, b.base + at, g.base + row / length * width, width)
      }
    }
    return result
  }

  /// The sum of all elements as a scalar of shape `[1]`.
  public func sum() -> Tensor {
    let dense = detached().contiguous()
    let total = Tensor([kernels.sum(dense.base, dense.count)], shape: [1])
    keepAlive(dense)
    return total.recorded(from: [self]) { [shape] gradient in
      [gradient.reshaped([Int](repeating: 1, count: shape.count)).expanded(shape).contiguous()]
    }
  }

  /// Sums over the dimensions in which `target` has extent 1 (the inverse of broadcasting).
  func reduced(to target: [Int]) -> Tensor {
    if shape == target { return self }
    let padded = [Int](repeating: 1, count: rank - target.count) + target
    var current = detached()
    for axis in 0..<rank where padded[axis] == 1 && current.shape[axis] != 1 {
      var order = Array(0..<rank)
      order.append(order.remove(at: axis))
      let rows = current.permuted(order).contiguous()
      let extent = current.shape[axis]
      var shape = current.shape
      shape[axis] = 1
      let sums = Tensor(uninitialized: shape)
      for row in 0..<sums.count { sums.base[row] = kernels.sum(rows.base + row * extent, extent) }
      keepAlive(rows)
      current = sums
    }
    return current.reshaped(target)
  }

  /// Applies a kernel to every element.
  func map(_ kernel: (UnsafeMutablePointer<Float>, UnsafePointer<Float>, Int) -> Void) -> Tensor {
    let source = detached().contiguous()
    let result = Tensor(uninitialized: shape)
    forChunks(count) { start, length in kernel(result.base + start, source.base + start, length) }
    return result
  }

  private static func binary(
    _ a: Tensor, _ b: Tensor,
    _ kernel: (UnsafeMutablePointer<Float>, UnsafePointer<Float>, UnsafePointer<Float>, Int) -> Void
  ) -> Tensor {
    let shape = broadcastShape(a.shape, b.shape)
    let left = a.detached().broadcast(to: shape)
    let right = b.detached().broadcast(to: shape)
    let result = Tensor(uninitialized: shape)
    forChunks(shape.product) { start, length in
      kernel(result.base + start, left.base + start, right.base + start, length)
    }
    return result
  }

  private func broadcast(to target: [Int]) -> Tensor {
    shape == target ? contiguous() : expanded(target).contiguous()
  }

  private static func broadcastShape(_ a: [Int], _ b: [Int]) -> [Int] {
    if a == b { return a }
    let rank = max(a.count, b.count)
    let left = [Int](repeating: 1, count: rank - a.count) + a
    let right = [Int](repeating: 1, count: rank - b.count) + b
    return zip(left, right).map { l, r in
      precondition(l == r || l == 1 || r == 1, "shapes \(a) and \(b) do not broadcast")
      return max(l, r)
    }
  }
}
