import DiffusionLayers
import DiffusionModels
import TensorCore

/// Single prompts through tokenizer and text encoder.
extension CaseReplayer {
  /// `hidden`: the last hidden states of the golden's own ids, padding included. `ids`: what the engine's
  /// tokenizer makes of the prompt.
  func text(_ name: String, _ details: JSONObject) throws -> [(String, Tensor)] {
    let prompts = try needed().prompts()
    let ids = try file.integers("\(name).in.ids")
    let mask = try file.integers("\(name).in.mask")
    let visible = mask.prefix { $0 == 1 }.count
    guard visible > 0, mask.count == ids.count, mask.dropFirst(visible).allSatisfy({ $0 == 0 }) else {
      throw SkippedCase(why: "its mask is not one run of tokens and then padding")
    }
    let hidden = try prompts.encoder.hiddenStates([TokenSequence(ids, visible: visible)], .plain)
    let own = try prompts.tokenizer.encode(details["prompt"]?.string ?? "").map(Float.init)
    return hidden.map { ("hidden", $0) } + [("ids", Tensor(own, shape: [own.count]))]
  }
}
