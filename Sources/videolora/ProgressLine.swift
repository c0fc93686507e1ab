import DiffusionPipelines
import Glibc
import Synchronization

/// A progress bar on stderr, if that is a terminal; silent otherwise.
final class ProgressLine: Sendable {
  private struct State {
    var lastDrawn = ContinuousClock.now - .seconds(1)
    var isShown = false
    var announcement: String?
  }

  private let state = Mutex(State())
  private let isActive = Console.isTerminal

  /// Draws `fraction` (0…1) with a text before the bar and one after it, at most ten times a second.
  func show(_ title: String, fraction: Double, note: String = "") {
    guard isActive else { return }
    state.withLock { state in
      let now = ContinuousClock.now
      guard now - state.lastDrawn > .milliseconds(100) || fraction >= 1 else { return }
      state.lastDrawn = now
      state.isShown = true
      let filled = Int((max(0, min(1, fraction)) * 30).rounded())
      let bar = String(repeating: "#", count: filled) + String(repeating: "-", count: 30 - filled)
      draw("\(title) [\(bar)] \(Int(fraction * 100)) %\(note)")
    }
  }

  /// A line for stderr, terminal or not, as soon as the first clip starts.
  func announce(_ text: String) { state.withLock { $0.announcement = text } }

  /// Shows how far a clip has come.
  func show(_ progress: GenerationProgress, of clips: Int?) {
    if let text = state.withLock({ $0.announcement.take() }) { Console.error(text) }
    let title = clips.map { "clip \(progress.clip + 1)/\($0)" } ?? "window \(progress.clip + 1)"
    let eta = progress.etaSeconds.map { ", ETA \(fixed($0, 0)) s" } ?? ""
    show(title, fraction: progress.fraction, note: "  step \(progress.step)/\(progress.steps)\(eta)")
  }

  /// Removes the bar.
  func clear() {
    guard isActive else { return }
    state.withLock { state in
      if state.isShown { draw("") }
      state.isShown = false
    }
  }

  private func draw(_ text: String) {
    let line = "\r\u{1b}[K" + text
    line.withCString { _ = write(STDERR_FILENO, $0, strlen($0)) }
  }
}
