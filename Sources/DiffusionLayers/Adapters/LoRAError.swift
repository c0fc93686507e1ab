/// Why an adapter file was refused: one sentence naming the file, the layer and what to do.
public enum LoRAError: Error, Equatable, CustomStringConvertible {
  case file(WeightsError)
  case method(file: String, method: AdapterMethod, tensor: String)
  case notAnAdapter(file: String, tensors: Int)
  case missingHalf(file: String, module: String, missing: String)
  case notAMatrix(file: String, tensor: String, shape: [Int])
  case rankMismatch(file: String, module: String, down: [Int], up: [Int])
  case rank(file: String, module: String, rank: Int, out: Int, in: Int)
  case alpha(file: String, module: String, value: Double)
  case duplicateTarget(file: String, module: String, first: String, second: String)
  case ambiguous(file: String, key: String, modules: [String])
  case metadata(file: String, reason: String)
  case rankDisagrees(file: String, module: String, stated: Int, found: Int, origin: String)
  case bias(file: String, tensor: String, expected: Int, found: [Int])
  case shape(
    file: String, module: String, expected: [Int], found: [Int], seemsFor: String?, model: String?)
  case unmatched(
    file: String, unmatched: Int, total: Int, examples: [String], seemsFor: String?, model: String?)
  case notApplied(file: String, module: String)
  case conversion(file: String, reason: String)
  case target(model: String, pattern: String, known: [String])
  case control(file: String, reason: String)

  public var description: String { sentence.printable }

  private var sentence: String {
    switch self {
    case .file(let error): error.description
    case .method(let file, let method, let tensor):
      "'\(file)' is \(method.name), as '\(tensor)' shows; only LoRA pairs and whole differences can be loaded, "
        + "so convert it to a LoRA with the tool it comes from"
    case .notAnAdapter(let file, let tensors):
      "'\(file)' is not a LoRA: none of its \(tensors) tensors is part of a low-rank pair"
    case .missingHalf(let file, let module, let missing):
      "'\(file)' is incomplete: the layer '\(module)' has no \(missing)"
    case .notAMatrix(let file, let tensor, let shape):
      "'\(file)': '\(tensor)' has shape \(shape), which no part of a low-rank pair or difference has"
    case .rankMismatch(let file, let module, let down, let up):
      "'\(file)': the two halves of '\(module)' disagree about the rank (lora_A is \(down), lora_B is \(up))"
    case .rank(let file, let module, let rank, let out, let inputs):
      "'\(file)': rank \(rank) is impossible for '\(module)', a layer from \(inputs) to \(out)"
    case .alpha(let file, let module, let value):
      "'\(file)': the alpha of '\(module)' gives an unusable strength (\(value)); "
        + "set alpha-over-rank to override it"
    case .duplicateTarget(let file, let module, let first, let second):
      "'\(file)': both '\(first)' and '\(second)' are meant for '\(module)'"
    case .ambiguous(let file, let key, let modules):
      "'\(file)': '\(key)' may mean any of \(modules.map { "'\($0)'" }.joined(separator: ", ")) in this model; "
        + "convert the file to names with dots"
    case .metadata(let file, let reason):
      "'\(file)': its adapter settings are unusable: \(reason); set alpha-over-rank to override them"
    case .rankDisagrees(let file, let module, let stated, let found, let origin):
      "'\(file)': \(origin) states rank \(stated) for '\(module)' and the tensors have rank \(found); "
        + "set alpha-over-rank to say which strength is meant"
    case .bias(let file, let tensor, let expected, let found):
      "'\(file)': '\(tensor)' has shape \(found) where a bias of \(expected) numbers is needed"
    case .shape(let file, let module, let expected, let found, let seemsFor, let model):
      "'\(file)' does not fit this model: its update of '\(module)' is \(found) and the layer is \(expected) "
        + "(out, in)" + Self.pairing(seemsFor, model)
    case .unmatched(let file, let unmatched, let total, let examples, let seemsFor, let model):
      "'\(file)' does not fit this model: \(unmatched) of \(total) keys match nothing, such as "
        + examples.map { "'\($0)'" }.joined(separator: ", ") + Self.pairing(seemsFor, model)
        + (unmatched < total ? "; lora-strict=false ignores them" : "")
    case .notApplied(let file, let module):
      "'\(file)' changes '\(module)', a layer of a kind that adapters cannot change here; "
        + "remove these tensors from the file"
    case .control(let file, let reason):
      "'\(file)': its strength token is unusable: \(reason); train or export it again"
    case .conversion(let file, let reason): "'\(file)' cannot be written so: \(reason)"
    case .target(let model, let pattern, let known):
      "the target '\(pattern)' names no layer of '\(model)' that an adapter can be trained for"
        + (known.isEmpty ? "" : "; its linear layers end in \(known.joined(separator: ", "))")
    }
  }

  /// What the file is for and what the model is.
  private static func pairing(_ seemsFor: String?, _ model: String?) -> String {
    switch (seemsFor, model) {
    case (let file?, let model?): "; the file seems to be made for \(file) and this model is \(model)"
    case (let file?, nil): "; the file seems to be made for \(file)"
    case (nil, let model?): "; this model is \(model)"
    case (nil, nil): ""
    }
  }
}
