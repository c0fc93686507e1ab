import DiffusionLayers

/// Why a training cannot start or go on: a sentence that names the cause and the remedy.
public enum TrainingError: Error, Equatable, CustomStringConvertible {
  case recipe(key: String, reason: String)
  case data(path: String, reason: String)
  case notFinite(step: Int, what: String, checkpoint: String?)
  case interrupted(step: Int, steps: Int, checkpoint: String)
  case checkpoint(file: String, reason: String)

  public var description: String {
    switch self {
    case .recipe(let key, let reason): "the recipe's '\(key)' \(reason)"
    case .data(let path, let reason): "'\(path)' \(reason)"
    case .notFinite(let step, let what, let checkpoint):
      "the \(what) of step \(step) is not finite; lower lr, or look for damaged clips"
        + (checkpoint.map { "; the state before it is in '\($0)'" } ?? "")
    case .interrupted(let step, let steps, let checkpoint):
      "interrupted after step \(step) of \(steps); '\(checkpoint)' is where --resume goes on"
    case .checkpoint(let file, let reason): "'\(file)' cannot be resumed: \(reason)"
    }
  }
}
