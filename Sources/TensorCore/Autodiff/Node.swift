import Synchronization

/// One recorded operation: what it was made from and how its gradient reaches them.
///
/// The tape travels with the value. `Tensor.node` is nil unless an input has one, so with a frozen base
/// nothing before the first trainable value is recorded and no gradient of a base weight is ever computed.
public final class Node: Sendable {
  /// Creation order: parents always have smaller numbers.
  let order: UInt64
  let parents: [Node?]
  /// From the gradient of the result to the gradients of the parents (nil where a parent has no node).
  let pullback: @Sendable (Tensor) -> [Tensor?]

  private static let counter = Atomic<UInt64>(0)

  init(parents: [Node?], pullback: @escaping @Sendable (Tensor) -> [Tensor?]) {
    order = Self.counter.wrappingAdd(1, ordering: .relaxed).newValue
    self.parents = parents
    self.pullback = pullback
  }
}

extension Tensor {
  /// This value as a leaf whose gradient can be asked for.
  public func trainable() -> Tensor {
    var leaf = detached()
    leaf.node = Node(parents: [], pullback: { _ in [] })
    return leaf
  }

  /// Whether a gradient is being recorded.
  public var isRecorded: Bool { node != nil }

  /// This result with its record, when one of `inputs` has one. The pullback must capture detached tensors.
  func recorded(
    from inputs: [Tensor], pullback: @escaping @Sendable (_ gradient: Tensor) -> [Tensor?]
  ) -> Tensor {
    guard inputs.contains(where: { $0.node != nil }) else { return self }
    var result = self
    result.node = Node(parents: inputs.map(\.node), pullback: pullback)
    return result
  }

  /// A view operation with one input.
  func recordedView(_ make: (Tensor) -> Tensor, pullback: @escaping @Sendable (Tensor) -> Tensor) -> Tensor {
    let result = make(detached())
    return result.recorded(from: [self]) { [pullback($0)] }
  }

  /// Stops a program that would lose a gradient in an operation without a gradient rule.
  func requireNoTape(_ operation: StaticString) {
    precondition(node == nil, "\(operation) has no gradient rule")
  }
}
