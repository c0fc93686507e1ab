import CKernels

extension Tensor {
  /// Gradients of this scalar with respect to `leaves` (zeros where it does not depend on one).
  ///
  /// Walks the record once, newest operation first, and releases what each operation holds as soon as it was used: a
  /// value has its gradients taken once.
  public func gradients(of leaves: [Tensor]) -> [Tensor] {
    precondition(count == 1, "gradients of a tensor of shape \(shape): only a scalar has them")
    let found = backpropagated(Tensor(repeating: 1, shape: shape), to: leaves.map(\.node))
    return zip(leaves, found).map { leaf, gradient in gradient ?? Tensor.zeros(leaf.shape) }
  }

  /// What reaches `nodes` when the gradient of this value is `seed`; nil where nothing does. Of nodes that stand for
  /// operations only those that nothing else is asked for behind.
  func backpropagated(_ seed: Tensor, to nodes: [Node?]) -> [Tensor?] {
    guard let root = node else { return nodes.map { _ in nil } }
    var sums: [UInt64: Tensor] = [root.order: seed.detached()]
    var reached = Self.nodes(behind: root)
    // Parents are older than their results, so the newest first is a topological order.
    reached.sort { $0.order < $1.order }
    while let current = reached.popLast() {
      guard !current.isLeaf, let gradient = sums.removeValue(forKey: current.order) else { continue }
      guard let operation = current.take() else {
        preconditionFailure("the gradients of a value can be taken once")
      }
      var parts: [Tensor?] = []
      for (index, parent) in operation.parents.enumerated() {
        // The sum itself goes to the first mention of a parent only.
        let isFirst = operation.parents[..<index].allSatisfy { $0 !== parent }
        parts.append(isFirst ? parent.flatMap { sums.removeValue(forKey: $0.order) } : nil)
      }
      operation.pullback(gradient, &parts)
      for (index, parent) in operation.parents.enumerated() {
        guard let parent, let part = parts[index].take() else { continue }
        accumulate(part, into: &sums[parent.order])
      }
    }
    return nodes.map { $0.flatMap { sums[$0.order] } }
  }

  private func accumulate(_ part: consuming Tensor, into sum: inout Tensor?) {
    Self.accumulate(part, into: &sum)
  }

  /// Every node that `root` was made from, itself included.
  static func nodes(behind root: Node) -> [Node] {
    var seen: Set<UInt64> = [root.order]
    var (waiting, found) = ([root], [root])
    while let node = waiting.popLast() {
      for parent in node.parents where seen.insert(parent.order).inserted {
        found.append(parent)
        if !parent.isLeaf { waiting.append(parent) }
      }
    }
    return found
  }

  /// `sum += part`, in place where nobody else holds one of the two.
  static func accumulate(_ part: consuming Tensor, into sum: inout Tensor?) {
    guard var total = sum.take() else {
      sum = part
      return
    }
    precondition(total.shape == part.shape, "gradients \(total.shape) and \(part.shape) of one value")
    if !total.isExclusive && part.isExclusive { swap(&total, &part) }
    guard total.isExclusive else {
      sum = total + part
      return
    }
    let (target, source) = (total, part.contiguous())
    forChunks(target.count) { start, length in
      kernels.add(target.base + start, target.base + start, source.base + start, length)
    }
    keepAlive(target, source)
    sum = total
  }

  /// Whether nobody else holds the storage, and its elements are this tensor's in row-major order: then it may be
  /// written to.
  var isExclusive: Bool {
    mutating get { isContiguous && isKnownUniquelyReferenced(&storage) }
  }

  /// `sum`, if it may be written to, or an uninitialised tensor.
  ///
  /// - Returns: the tensor to write, and whether what it holds has to be added to.
  static func target(_ sum: inout Tensor?, shape: [Int]) -> (tensor: Tensor, accumulates: Bool) {
    if var total = sum.take() {
      if total.isExclusive { return (total, true) }
      let copy = Tensor(uninitialized: shape)
      let source = total.contiguous()
      forChunks(copy.count) { start, length in
        (copy.base + start).update(from: source.base + start, count: length)
      }
      keepAlive(source)
      return (copy, true)
    }
    return (Tensor(uninitialized: shape), false)
  }
}
