import Glibc
import TensorCore

/// What goes to the terminal beside results.
enum Console {
  /// Writes a line to stderr.
  static func error(_ text: String) {
    let line = text + "\n"
    line.withCString { _ = write(STDERR_FILENO, $0, strlen($0)) }
  }

  static var isTerminal: Bool { isatty(STDERR_FILENO) == 1 }
}

/// Turns ^C into a cancellation, so that a run ends at its next step and leaves nothing half-written.
enum Interrupt {
  private static let cancellation = Cancellation()

  /// Starts to listen; a second ^C ends the process at once.
  static func install() -> Cancellation {
    let cancellation = cancellation
    signal(SIGINT) { _ in
      Interrupt.cancellation.cancel()
      signal(SIGINT, SIG_DFL)
    }
    // A parent may have left the signal blocked.
    var interrupt = sigset_t()
    sigemptyset(&interrupt)
    sigaddset(&interrupt, SIGINT)
    pthread_sigmask(SIG_UNBLOCK, &interrupt, nil)
    return cancellation
  }
}
