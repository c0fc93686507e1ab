import CKernels
import Glibc
import Synchronization

/// Runs `body(0) … body(count - 1)`, spread over the engine's threads, and returns when all are done.
///
/// Callers cut their work by shape alone, never by the number of threads, so a result has the same bytes for
/// any thread count. A call from inside a body runs in place.
package func parallelFor(_ count: Int, _ body: (Int) -> Void) {
  guard count > 1, let pool = WorkerPool.forThisCall() else {
    for index in 0..<count { body(index) }
    return
  }
  withoutActuallyEscaping(body) { escaping in
    withUnsafePointer(to: escaping) { pool.run(Job(count: count, body: $0)) }
  }
}

/// The engine's threads: one setting per process.
public enum EngineThreads {
  private static let wanted = Mutex<Int?>(nil)

  /// Sets the number of threads; 0 means all cores. Only the first call of a process counts.
  /// - Returns: whether `count` is what the process uses.
  @discardableResult
  public static func request(_ count: Int) -> Bool {
    let resolved = count > 0 ? count : available
    return wanted.withLock { current in
      if let current { return current == resolved }
      current = resolved
      return true
    }
  }

  /// Cores that this process may use.
  public static var available: Int { Int(ck_available_cores()) }

  /// The number of threads in use.
  public static var count: Int {
    request(0)
    return wanted.withLock { $0 ?? 1 }
  }
}

/// One parallel loop in progress.
///
/// A worker may hold its job a little longer than the loop runs, so a job only points to the body on the
/// caller's stack, and nobody follows the pointer once all iterations are taken. `@unchecked Sendable` for
/// that pointer.
private final class Job: @unchecked Sendable {
  let count: Int
  private let body: UnsafePointer<(Int) -> Void>
  let next = Atomic<Int>(0)
  let finished = Atomic<Int>(0)

  init(count: Int, body: UnsafePointer<(Int) -> Void>) {
    self.count = count
    self.body = body
  }

  /// Does iterations until none is left. Returns whether it did the last one.
  func work() -> Bool {
    var last = false
    while true {
      let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
      guard index < count else { return last }
      call(index)
      last = finished.wrappingAdd(1, ordering: .acquiringAndReleasing).newValue == count
    }
  }

  /// Apart from `work`, so that the closure is let go before the iteration counts as finished.
  @inline(never)
  private func call(_ index: Int) { body.pointee(index) }

  var isExhausted: Bool { next.load(ordering: .relaxed) >= count }
  var isDone: Bool { finished.load(ordering: .acquiring) == count }
}

/// Worker threads that live as long as the process; they sleep when there is no work.
///
/// `@unchecked Sendable`: the queue is guarded by the pthread mutex beside it.
private final class WorkerPool: @unchecked Sendable {
  private static let shared: WorkerPool? =
    EngineThreads.count > 1 ? WorkerPool(workers: EngineThreads.count - 1) : nil
  private static let busyKey: pthread_key_t = {
    var key = pthread_key_t()
    pthread_key_create(&key, nil)
    return key
  }()

  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let wake = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private let done = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var queue: [Job] = []

  /// The pool, unless this thread is already inside a parallel loop or there is only one thread.
  static func forThisCall() -> WorkerPool? {
    pthread_getspecific(busyKey) == nil ? shared : nil
  }

  private init(workers: Int) {
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(wake, nil)
    pthread_cond_init(done, nil)
    for _ in 0..<workers {
      var thread = pthread_t()
      let context = Unmanaged.passRetained(self).toOpaque()
      pthread_create(
        &thread, nil,
        { context in
          guard let context else { return nil }
          Unmanaged<WorkerPool>.fromOpaque(context).takeUnretainedValue().serve()
        }, context)
      pthread_detach(thread)
    }
  }

  private func serve() -> Never {
    pthread_setspecific(Self.busyKey, UnsafeRawPointer(bitPattern: 1))
    var signals = sigset_t()
    sigfillset(&signals)
    pthread_sigmask(SIG_BLOCK, &signals, nil)
    pthread_mutex_lock(mutex)
    while true {
      while let first = queue.first, first.isExhausted { queue.removeFirst() }
      guard let job = queue.first else {
        pthread_cond_wait(wake, mutex)
        continue
      }
      pthread_mutex_unlock(mutex)
      let last = job.work()
      pthread_mutex_lock(mutex)
      if last { pthread_cond_broadcast(done) }
    }
  }

  func run(_ job: Job) {
    pthread_setspecific(Self.busyKey, UnsafeRawPointer(bitPattern: 1))
    pthread_mutex_lock(mutex)
    queue.append(job)
    pthread_cond_broadcast(wake)
    pthread_mutex_unlock(mutex)
    _ = job.work()
    pthread_mutex_lock(mutex)
    queue.removeAll { $0 === job }
    while !job.isDone { pthread_cond_wait(done, mutex) }
    pthread_mutex_unlock(mutex)
    pthread_setspecific(Self.busyKey, nil)
  }
}
