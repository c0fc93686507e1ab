import ArgumentParser
import DiffusionLayers
import DiffusionPipelines

/// Checks whether an element can run here, and says what to do where it cannot.
struct Doctor: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Check plugin path, registry, libraries, SIMD level, memory and the default model.",
    discussion: "Exit code 0 only when the element `videolora` can run.")

  @Option(help: "The model that is loaded as a check.")
  var model = "builtin:nano"

  @Flag(help: "Print the result as JSON.")
  var json = false

  func run() throws {
    let findings = Machine.findings() + [modelFinding()] + GStreamerCheck(model: model).findings()
    if json {
      let list = findings.map { finding in
        JSONValue.object([
          "check": .string(finding.check), "state": .string(finding.state.rawValue),
          "found": .string(finding.found),
          "remedy": finding.remedy.map { .string($0) } ?? .null,
        ])
      }
      print(
        JSONValue.object([
          "can_run": .bool(!findings.contains { $0.state == .failed }), "checks": .array(list),
        ]))
    } else {
      for finding in findings {
        print("\(finding.state.mark)  \(finding.check.padded(to: 12))  \(finding.found)")
        if let remedy = finding.remedy { print("                    -> \(remedy)") }
      }
    }
    let failures = findings.filter { $0.state == .failed }
    guard failures.isEmpty else {
      throw CLIError(
        "the element videolora cannot run: " + failures.map(\.check).joined(separator: ", ")
          + " failed; see the remedies above")
    }
  }

  private func modelFinding() -> Finding {
    let clock = ContinuousClock.now
    do {
      let info = try VideoModel.load(model).info
      return Finding(
        "model", .fine,
        "\(model): family \(info.family), \(fixed(Double(info.parameters) / 1e6, 2)) M parameters, trained at "
          + "\(info.clipLength) frames \(info.trainedWidth)x\(info.trainedHeight), loads in "
          + "\(fixed((ContinuousClock.now - clock).seconds, 2)) s")
    } catch {
      return Finding("model", .failed, "\(error)", remedy: "name a model that loads with --model")
    }
  }
}

/// The outcome of one check.
struct Finding {
  enum State: String {
    case fine = "ok"
    case warning, failed

    var mark: String {
      switch self {
      case .fine: "ok  "
      case .warning: "warn"
      case .failed: "FAIL"
      }
    }
  }

  let check: String
  let state: State
  let found: String
  let remedy: String?

  init(_ check: String, _ state: State, _ found: String, remedy: String? = nil) {
    (self.check, self.state, self.found, self.remedy) = (check, state, found, remedy)
  }
}

extension String {
  /// The text filled with spaces on the right.
  func padded(to width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}
