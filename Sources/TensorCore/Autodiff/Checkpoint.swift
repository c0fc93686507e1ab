extension Tensor {
  /// The result of `block`, whose activations are computed again when its gradient is taken instead of being kept.
  ///
  /// Without a record nothing is done: the result is the block's own. Leaves that the block holds itself, such as an
  /// adapter's factors, are found on its record; every other recorded value must come in through `inputs`.
  ///
  /// Reference: Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016; torch's `utils.checkpoint`.
  public static func checkpoint<E: Error>(
    _ inputs: [Tensor], _ block: ([Tensor]) throws(E) -> Tensor,
    again: @escaping @Sendable ([Tensor]) -> Tensor
  ) throws(E) -> Tensor {
    let before = Node.newest
    let result = try block(inputs.map { $0.isRecorded ? $0.trainable() : $0 })
    guard let node = result.node else { return result }
    // Leaves from before the block are what it holds; those made here stand for the inputs.
    let inner = nodes(behind: node)
    let held = inner.filter { $0.isLeaf && $0.order <= before }.sorted { $0.order < $1.order }
    precondition(
      inner.allSatisfy { $0.isLeaf || $0.order > before },
      "a checkpointed block uses a recorded value that is not among its inputs")
    let sources = inputs.filter(\.isRecorded)
    let kept = inputs.map { (value: $0.detached(), isRecorded: $0.isRecorded) }
    var outer = result.detached()
    outer.node = Node(
      Node.Operation(parents: sources.map(\.node) + held.map { $0 }) { gradient, sums in
        let fresh = kept.map { $0.isRecorded ? $0.value.trainable() : $0.value }
        let wanted = fresh.compactMap(\.node) + held
        for (index, part) in again(fresh).backpropagated(gradient, to: wanted).enumerated() {
          if let part { accumulate(part, into: &sums[index]) }
        }
      })
    return outer
  }

  /// The same for a block that cannot fail.
  public static func checkpoint(_ inputs: [Tensor], _ block: @escaping @Sendable ([Tensor]) -> Tensor)
    -> Tensor
  {
    checkpoint(inputs, block, again: block)
  }
}
