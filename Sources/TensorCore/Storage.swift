import Synchronization

/// The bytes behind one or more tensors: 64-byte aligned floats from the buffer pool, given back when the
/// last tensor goes.
///
/// `@unchecked Sendable`: written only by the operation that creates it, shared read-only afterwards.
package final class Storage: @unchecked Sendable {
  package let floats: UnsafeMutablePointer<Float>
  package let count: Int

  /// Uninitialised floats.
  package init(count: Int) {
    self.count = count
    floats = BufferPool.shared.take(count: count)
  }

  deinit {
    BufferPool.shared.give(floats, count: count)
  }
}
