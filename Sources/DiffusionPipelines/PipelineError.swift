public import DiffusionLayers

/// Why a model cannot be loaded or a run cannot go on: a sentence that names the cause and the remedy.
public enum PipelineError: Error, Equatable, CustomStringConvertible {
  case unsupported(what: String, remedy: String)
  case missingComponent(model: String, component: String)
  case overBudget(needed: UInt64, budget: UInt64, what: String)
  case overMemory(needed: UInt64, available: UInt64, what: String)
  case embeddings(file: String, reason: String)
  /// The file of `prompt-embeds` cannot be read.
  case embeddingsFile(WeightsError)
  case noMotionModule(model: String)
  case noTextEncoder(model: String, reason: String)
  case option(name: String, value: String, reason: String)
  case notFinite(step: Int, steps: Int)
  case noise(expected: [Int], found: [Int])

  public var description: String { sentence.printable }

  private var sentence: String {
    switch self {
    case .unsupported(let what, let remedy): "\(what) is not supported; \(remedy)"
    case .missingComponent(let model, let component):
      "'\(model)' has no \(component); model= takes a directory in diffusers layout (model_index.json and one "
        + "folder per component), Wan's own files, a Stable Diffusion 1.5 checkpoint with a motion module, or a builtin "
        + "name"
    case .overBudget(let needed, let budget, let what):
      "\(what) needs \(Self.mebibytes(needed)) MiB and memory-budget allows \(budget >> 20) MiB; raise "
        + "memory-budget, or lower clip-length or the picture size"
    case .overMemory(let needed, let available, let what):
      "\(what) needs \(Self.mebibytes(needed)) MiB and this machine has \(available >> 20) MiB; lower "
        + "clip-length or the picture size"
    case .embeddings(let file, let reason): "prompt-embeds '\(file)': \(reason)"
    case .embeddingsFile(let error): "prompt-embeds: \(error)"
    case .noMotionModule(let model):
      "'\(model)' makes single pictures; set motion-module to the file or folder of an AnimateDiff motion module, or "
        + "put the folder motion_adapter beside it"
    case .noTextEncoder(let model, let reason):
      "'\(model)' cannot encode prompts: \(reason); or set prompt-embeds to a file of precomputed embeddings"
    case .option(let name, let value, let reason): "\(name)=\(value) \(reason)"
    case .notFinite(let step, let steps):
      "the model gave a value that is not finite in step \(step) of \(steps); its weights or an adapter are damaged, "
        + "or a strength is far too large"
    case .noise(let expected, let found):
      "the starting noise has the shape \(found), this run needs \(expected)"
    }
  }

  /// Rounded up, without a sum that could overflow: `bytes` may be what a user set.
  static func mebibytes(_ bytes: UInt64) -> UInt64 { bytes >> 20 + (bytes % (1 << 20) == 0 ? 0 : 1) }
}
