import DiffusionLayers
import DiffusionModels
import TensorCore

/// Why a case is left out.
struct SkippedCase: Error {
  let why: String
}

/// Runs single cases.
struct CaseReplayer {
  let file: SafetensorsFile
  let cases: JSONObject
  /// The model whose components made the golden; scheduler cases need none.
  let model: ReplayModel?
  /// Folder of the adapter files.
  let loras: String

  func run(_ name: String) throws -> [(String, Tensor)] {
    let details = cases[name]?.object ?? JSONObject()
    if name.hasPrefix("sched.") { return try scheduler(name, details) }
    if name.hasPrefix("forward") || name.hasPrefix("lora.") {
      let inputs = name.hasPrefix("lora.") ? "forward" : name
      let (model, matches, context) = try adapted(details)
      let latents = try input(inputs, "latents")
      let sample = try model.predict(
        latents, timesteps: try timesteps(inputs, count: latents.shape[0]),
        context: try input(inputs, "embeds"), context)
      return [("sample", sample)] + (name.hasPrefix("lora.") ? try adaptedText(matches, context) : [])
    }
    if name.hasPrefix("vae_") { return try autoencoder(name) }
    if name.hasPrefix("text.") { return try text(name, details) }
    if name.hasPrefix("t2v.") { return try textToVideo(name, details) }
    if name.hasPrefix("v2v.") { return try videoToVideo(name, details) }
    throw SkippedCase(why: "cases of this kind are not supported yet")
  }

  /// The backbone with the case's adapters at their scales, and what they do to the text encoder.
  func adapted(_ details: JSONObject) throws -> (any VideoBackbone, [LoRAMatch], RunContext) {
    let (architecture, backbone) = try needed().backbone
    var parts: [LoRAComponent: any WeightSource] = [.denoiser: backbone]
    if let clip = try? needed().clip() { parts[.textEncoder] = clip.source }
    var (matches, textMatches): ([LoRAMatch], [LoRAMatch]) = ([], [])
    var strengths: [[Float]] = []
    for entry in details["adapters"]?.array ?? [] {
      guard let name = entry.array?.first?.string, let scale = entry.array?.last?.double else { continue }
      do {
        let file = try LoRAFile(path: "\(loras)/\(name)")
        // What it has for a text encoder that is not there is no matter here.
        let hasText = file.layers.contains { $0.component == .textEncoder }
        let found = try file.match(against: parts, strict: !hasText || parts[.textEncoder] != nil)
        if let match = found[.denoiser] { matches.append(match) }
        if let match = found[.textEncoder] { textMatches.append(match) }
      } catch {
        throw SkippedCase(why: "\(error)")
      }
      strengths.append([Float(scale)])
    }
    let source = AdaptedSource(backbone, adapters: matches)
    let model = try architecture.build(Weights(source))
    try source.checkApplied()
    return (model, textMatches, RunContext(strengths: strengths))
  }

  /// The model, which cases of most kinds need.
  func needed() throws -> ReplayModel {
    guard let model else { throw SkippedCase(why: "it needs a model") }
    return model
  }

  func input(_ name: String, _ tensor: String) throws -> Tensor {
    try file.load("\(name).in.\(tensor)")
  }

  /// The timestep of each batch entry; a single one is for all.
  func timesteps(_ name: String, count: Int) throws -> [Float] {
    let tensor = "\(name).in.timestep"
    let values: [Float] =
      if file.entries[tensor]?.dtype == .int64 {
        try file.integers(tensor).map(Float.init)
      } else {
        try file.load(tensor).array()
      }
    return values.count == 1 ? [Float](repeating: values[0], count: count) : values
  }
}
