import Synchronization

/// One recorded operation: what it was made from and how its gradient reaches them.
///
/// The tape travels with the value. `Tensor.node` is nil unless an input has one, so with a frozen base
/// nothing before the first trainable value is recorded and no gradient of a base weight is ever computed.
public final class Node: Sendable {
  /// From the gradient of the result to those of the parents.
  ///
  /// On entry `sums[i]` is what other operations sent to parent `i` so far, nil for nothing; the pullback adds its
  /// part, in place where nobody else holds the sum. The sums of parents without a node are ignored.
  typealias Pullback = @Sendable (_ gradient: Tensor, _ sums: inout [Tensor?]) -> Void

  struct Operation: Sendable {
    let parents: [Node?]
    let pullback: Pullback
  }

  /// Creation order: parents always have smaller numbers.
  let order: UInt64
  /// A value that gradients are asked for, made by no operation.
  let isLeaf: Bool
  private let operation: Mutex<Operation?>

  private static let counter = Atomic<UInt64>(0)

  /// The number of the newest node of the process.
  static var newest: UInt64 { counter.load(ordering: .relaxed) }

  init(_ operation: Operation? = nil) {
    order = Self.counter.wrappingAdd(1, ordering: .relaxed).newValue
    isLeaf = operation == nil
    self.operation = Mutex(operation)
  }

  /// The nodes that the value was made from.
  var parents: [Node] { operation.withLock { $0?.parents.compactMap(\.self) ?? [] } }

  /// Hands over the operation, so that what it holds goes as soon as it is used. Nil for a leaf and the second time.
  func take() -> Operation? { operation.withLock { $0.take() } }

  /// A chain of many operations is released one by one instead of one inside the other.
  deinit {
    var waiting = take()?.parents.compactMap(\.self) ?? []
    while var node = waiting.popLast() {
      if isKnownUniquelyReferenced(&node), let operation = node.take() {
        waiting += operation.parents.compactMap(\.self)
      }
    }
  }
}

extension Tensor {
  /// This value as a leaf whose gradient can be asked for.
  public func trainable() -> Tensor {
    var leaf = detached()
    leaf.node = Node()
    return leaf
  }

  /// Whether a gradient is being recorded.
  public var isRecorded: Bool { node != nil }

  /// This result with its record, when one of `inputs` has one. The pullback gives the part of each input, nil where
  /// it has none; it must capture detached tensors.
  func recorded(
    from inputs: [Tensor], pullback: @escaping @Sendable (_ gradient: Tensor) -> [Tensor?]
  ) -> Tensor {
    recorded(accumulating: inputs) { gradient, sums in
      for (index, part) in pullback(gradient).enumerated() {
        if let part { Tensor.accumulate(part, into: &sums[index]) }
      }
    }
  }

  /// The same with a pullback that adds to the sums itself.
  func recorded(accumulating inputs: [Tensor], pullback: @escaping Node.Pullback) -> Tensor {
    guard inputs.contains(where: { $0.node != nil }) else { return self }
    var result = self
    result.node = Node(Node.Operation(parents: inputs.map(\.node), pullback: pullback))
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
