import Synchronization

/// Thrown when a run was stopped through its `Cancellation`.
public struct Cancelled: Error, Sendable {
  public init() {}
}

/// A flag that stops a run from another thread. Models poll it between layers, at least every 50 ms on small
/// models.
public final class Cancellation: Sendable {
  private let flag = Atomic<Bool>(false)

  public init() {}

  /// Asks the run to stop.
  public func cancel() { flag.store(true, ordering: .releasing) }

  /// Makes the flag usable for the next run.
  public func reset() { flag.store(false, ordering: .releasing) }

  public var isCancelled: Bool { flag.load(ordering: .acquiring) }

  /// Throws when the run was cancelled.
  public func check() throws(Cancelled) {
    if isCancelled { throw Cancelled() }
  }
}
