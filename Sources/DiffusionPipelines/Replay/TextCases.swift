import DiffusionLayers
import DiffusionModels
import TensorCore

/// Single prompts through tokenizer and text encoder.
extension CaseReplayer {
  /// `hidden`: the last hidden states of the golden's own ids, padding included. `ids`: what the engine's
  /// tokenizer makes of the prompt.
  func text(_ name: String, _ details: JSONObject) throws -> [(String, Tensor)] {
    guard let model else { throw SkippedCase(why: "it needs a model") }
    let directory = try ModelDirectory(model)
    let component = "text_encoder"
    guard directory.exists("\(component)/config.json") else {
      throw SkippedCase(why: "the model has no text encoder")
    }
    let config = try T5Config(
      .object(try directory.json("\(component)/config.json")),
      file: directory.location(of: "\(component)/config.json"))
    // Read layer by layer: what it needs in memory is no concern here.
    let source = try SafetensorsSource(directory, component: component, memoryBudget: .max)
    let encoder = try T5Encoder(source: source, config: config)
    let ids = try file.integers("\(name).in.ids")
    let mask = try file.integers("\(name).in.mask")
    let visible = mask.prefix { $0 == 1 }.count
    guard visible > 0, mask.count == ids.count, mask.dropFirst(visible).allSatisfy({ $0 == 0 }) else {
      throw SkippedCase(why: "its mask is not one run of tokens and then padding")
    }
    let hidden = try encoder.hiddenStates([TokenSequence(ids, visible: visible)], .plain)
    let tokenizer = try SentencePieceTokenizer(directory)
    let own = try tokenizer.encode(details["prompt"]?.string ?? "").map(Float.init)
    return hidden.map { ("hidden", $0) } + [("ids", Tensor(own, shape: [own.count]))]
  }
}
