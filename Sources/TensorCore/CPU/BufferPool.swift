import Glibc
import Synchronization

/// Recycles float buffers by size class, so that a denoising loop reaches a steady state without asking the
/// system.
///
/// A temporary dies at its last use (ARC) and its buffer serves the next operation of that size. What lies
/// idle is bounded by the peak of what was in use; more than that goes back to the system.
package final class BufferPool: Sendable {
  package static let shared = BufferPool()

  private struct State {
    var free: [Int: [UInt]] = [:]
    var idleBytes = 0
    var usedBytes = 0
    var peakBytes = 0
  }
  private let state = Mutex(State())

  /// Buffers from this size on ask the system for large pages.
  private static let hugePage = 2 << 20

  package init() {}

  /// Four size classes per power of two, at least 64 floats: at most a quarter of a buffer is unused.
  static func sizeClass(_ count: Int) -> Int {
    let wanted = max(64, count)
    let top = Int.bitWidth - 1 - wanted.leadingZeroBitCount
    let step = 1 << max(4, top - 2)
    return (wanted + step - 1) / step * step
  }

  package func take(count: Int) -> UnsafeMutablePointer<Float> {
    let size = Self.sizeClass(count)
    let bytes = size * MemoryLayout<Float>.stride
    let recycled: UInt? = state.withLock { state in
      state.usedBytes += bytes
      state.peakBytes = max(state.peakBytes, state.usedBytes)
      guard let address = state.free[size]?.popLast() else { return nil }
      state.idleBytes -= bytes
      return address
    }
    if let recycled, let pointer = UnsafeMutablePointer<Float>(bitPattern: recycled) { return pointer }
    var raw: UnsafeMutableRawPointer?
    let isLarge = bytes >= Self.hugePage
    guard posix_memalign(&raw, isLarge ? Self.hugePage : 64, bytes) == 0, let raw else {
      fatalError("out of memory: \(bytes) bytes for a tensor of \(count) floats")
    }
    // Fewer page faults while weights are read.
    if isLarge { madvise(raw, bytes, MADV_HUGEPAGE) }
    return raw.bindMemory(to: Float.self, capacity: size)
  }

  package func give(_ pointer: UnsafeMutablePointer<Float>, count: Int) {
    let size = Self.sizeClass(count)
    let bytes = size * MemoryLayout<Float>.stride
    let kept = state.withLock { state in
      state.usedBytes -= bytes
      guard state.idleBytes + bytes <= max(64 << 20, state.peakBytes - state.usedBytes) else { return false }
      state.idleBytes += bytes
      state.free[size, default: []].append(UInt(bitPattern: pointer))
      return true
    }
    if !kept { free(pointer) }
  }

  /// Bytes of live tensors.
  package var usedBytes: Int { state.withLock { $0.usedBytes } }

  /// The most bytes of live tensors at one time since the last `resetPeak`.
  package var peakBytes: Int { state.withLock { $0.peakBytes } }

  /// Starts a new measurement of `peakBytes`.
  package func resetPeak() {
    state.withLock { $0.peakBytes = $0.usedBytes }
  }
}

/// What the tensors of this process take.
public enum TensorMemory {
  /// The most bytes of live tensors at one time since the last `resetPeak`.
  public static var peakBytes: Int { BufferPool.shared.peakBytes }
  /// Starts a new measurement of `peakBytes`.
  public static func resetPeak() { BufferPool.shared.resetPeak() }
  /// Memory of this machine.
  public static var physicalBytes: UInt64 {
    UInt64(max(0, sysconf(Int32(_SC_PHYS_PAGES)))) * UInt64(max(0, sysconf(Int32(_SC_PAGESIZE))))
  }
}
