import DiffusionLayers
import DiffusionModels
import TensorCore

/// Single prompts through tokenizer and text encoder.
extension CaseReplayer {
  /// `hidden`: the last hidden states of the golden's own ids, padding included. `ids`: what the engine's
  /// tokenizer makes of the prompt.
  func text(_ name: String, _ details: JSONObject) throws -> [(String, Tensor)] {
    if let clip = try needed().clip() {
      let prompt = details["prompt"]?.string ?? ""
      let own = clip.tokenizer.encode(prompt, length: clip.length).map(Float.init)
      return [("hidden", try hidden(name, clip, .plain)), ("ids", Tensor(own, shape: [own.count]))]
    }
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

  /// The last hidden states of a text case's own ids; padding is looked at like text.
  private func hidden(_ name: String, _ clip: CLIPPrompts, _ run: RunContext) throws -> Tensor {
    let ids = try file.integers("\(name).in.ids")
    guard (1...clip.length).contains(ids.count) else {
      throw SkippedCase(why: "its \(ids.count) ids are not 1 to \(clip.length)")
    }
    return try clip.encoder([ids], run)
  }

  /// `text0` of a case with adapters: the first text case's hidden states with them, for encoders that adapters change.
  func adaptedText(_ matches: [LoRAMatch], _ run: RunContext) throws -> [(String, Tensor)] {
    guard let clip = try needed().clip(), file.entries["text.0.in.ids"] != nil else { return [] }
    let adapted = try clip.adapted(with: matches)
    return [("text0", try hidden("text.0", adapted, run))]
  }
}
