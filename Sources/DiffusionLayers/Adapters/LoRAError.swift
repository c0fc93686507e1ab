/// Why an adapter file was refused: one sentence naming the file, the layer and what to do.
public enum LoRAError: Error, Equatable, CustomStringConvertible {
  case file(WeightsError)
  case unsupported(file: String, dialect: LoRADialect)
  case notAnAdapter(file: String, tensors: Int)
  case missingHalf(file: String, module: String, missing: String)
  case notAMatrix(file: String, tensor: String, shape: [Int])
  case rankMismatch(file: String, module: String, down: [Int], up: [Int])
  case rank(file: String, module: String, rank: Int, out: Int, in: Int)
  case alpha(file: String, module: String, value: Double)
  case duplicateTarget(file: String, module: String, first: String, second: String)
  case metadata(file: String, reason: String)
  case rankDisagrees(file: String, module: String, stated: Int, found: Int, origin: String)
  case shape(file: String, module: String, expected: [Int], found: [Int], seemsFor: String?)
  case unmatched(file: String, unmatched: Int, total: Int, examples: [String], seemsFor: String?)

  public var description: String { sentence.printable }

  private var sentence: String {
    switch self {
    case .file(let error): error.description
    case .unsupported(let file, let dialect):
      "'\(file)' is \(dialect.name), which this version cannot load; use an adapter for this model with names "
        + "such as transformer.blocks.0.attn1.to_q.lora_A.weight"
    case .notAnAdapter(let file, let tensors):
      "'\(file)' is not a LoRA: none of its \(tensors) tensors is part of a low-rank pair"
    case .missingHalf(let file, let module, let missing):
      "'\(file)' is incomplete: the layer '\(module)' has no \(missing)"
    case .notAMatrix(let file, let tensor, let shape):
      "'\(file)': '\(tensor)' has shape \(shape); only matrices (adapters of linear layers) can be loaded"
    case .rankMismatch(let file, let module, let down, let up):
      "'\(file)': the two halves of '\(module)' disagree about the rank (lora_A is \(down), lora_B is \(up))"
    case .rank(let file, let module, let rank, let out, let inputs):
      "'\(file)': rank \(rank) is impossible for '\(module)', a layer from \(inputs) to \(out)"
    case .alpha(let file, let module, let value):
      "'\(file)': the alpha of '\(module)' gives an unusable strength (\(value)); "
        + "set alpha-over-rank to override it"
    case .duplicateTarget(let file, let module, let first, let second):
      "'\(file)': both '\(first)' and '\(second)' are meant for '\(module)'"
    case .metadata(let file, let reason):
      "'\(file)': its adapter settings are unusable: \(reason); set alpha-over-rank to override them"
    case .rankDisagrees(let file, let module, let stated, let found, let origin):
      "'\(file)': \(origin) states rank \(stated) for '\(module)' and the tensors have rank \(found); "
        + "set alpha-over-rank to say which strength is meant"
    case .shape(let file, let module, let expected, let found, let seemsFor):
      "'\(file)' does not fit this model: its update of '\(module)' is \(found) and the layer is \(expected) "
        + "(out, in)" + Self.guess(seemsFor)
    case .unmatched(let file, let unmatched, let total, let examples, let seemsFor):
      "'\(file)' does not fit this model: \(unmatched) of \(total) keys match nothing, such as "
        + examples.map { "'\($0)'" }.joined(separator: ", ") + Self.guess(seemsFor)
        + (unmatched < total ? "; lora-strict=false ignores them" : "")
    }
  }

  private static func guess(_ seemsFor: String?) -> String {
    seemsFor.map { "; the file seems to be made for \($0)" } ?? ""
  }
}
