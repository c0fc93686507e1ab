import Glibc

/// Runs another program and collects what it prints.
enum Subprocess {
  struct Result {
    /// nil when it was stopped after the time limit or by a signal.
    var status: Int32?
    var output: String
  }

  /// Runs a program found in PATH; nil when there is none of that name.
  static func run(_ program: String, _ arguments: [String], seconds: Int) -> Result? {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else { return nil }
    defer { close(ends[0]) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO)
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO)
    posix_spawn_file_actions_addclose(&actions, ends[0])

    var words: [UnsafeMutablePointer<CChar>?] = ([program] + arguments).map { strdup($0) }
    words.append(nil)
    defer { for word in words { free(word) } }
    var child: pid_t = 0
    let failure = posix_spawnp(&child, program, &actions, nil, words, environ)
    close(ends[1])
    guard failure == 0 else { return nil }

    let (output, isComplete) = read(ends[0], until: ContinuousClock.now + .seconds(seconds))
    if !isComplete { kill(child, SIGKILL) }
    var status: Int32 = 0
    while waitpid(child, &status, 0) < 0, errno == EINTR {}
    let hasExited = status & 0x7f == 0
    return Result(status: isComplete && hasExited ? (status >> 8) & 0xff : nil, output: output)
  }

  private static func read(_ descriptor: Int32, until deadline: ContinuousClock.Instant) -> (String, Bool) {
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
      let left = Int32(clamping: Int((deadline - ContinuousClock.now).seconds * 1000))
      var wanted = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      guard left > 0 else { return (String(decoding: bytes, as: UTF8.self), false) }
      guard poll(&wanted, 1, left) > 0 else { continue }
      let count = Glibc.read(descriptor, &buffer, buffer.count)
      guard count > 0 else { return (String(decoding: bytes, as: UTF8.self), true) }
      bytes += buffer[..<count]
    }
  }
}
