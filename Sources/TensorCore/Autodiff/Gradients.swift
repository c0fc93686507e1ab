extension Tensor {
  /// Gradients of this scalar with respect to `leaves` (zeros where it does not depend on one).
  public func gradients(of leaves: [Tensor]) -> [Tensor] {
    precondition(count == 1, "gradients of a tensor of shape \(shape): only a scalar has them")
    var sums: [UInt64: Tensor] = [:]
    if let root = node {
      sums[root.order] = Tensor(repeating: 1, shape: shape)
      // Parents are older than their results, so the newest first is a topological order.
      var waiting: [UInt64: Node] = [root.order: root]
      while let order = waiting.keys.max(), let current = waiting.removeValue(forKey: order) {
        guard !current.parents.isEmpty, let gradient = sums.removeValue(forKey: order) else { continue }
        for (parent, part) in zip(current.parents, current.pullback(gradient)) {
          guard let parent, let part else { continue }
          if let sum = sums[parent.order] {
            sums[parent.order] = sum + part
          } else {
            sums[parent.order] = part
          }
          waiting[parent.order] = parent
        }
      }
    }
    return leaves.map { leaf in
      leaf.node.flatMap { sums[$0.order] } ?? Tensor.zeros(leaf.shape)
    }
  }
}
