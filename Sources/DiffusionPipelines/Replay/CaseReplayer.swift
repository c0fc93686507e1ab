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
      let (model, context) = try adapted(details)
      let latents = try input(inputs, "latents")
      let sample = try model.predict(
        latents, timesteps: try timesteps(inputs, count: latents.shape[0]),
        context: try input(inputs, "embeds"), context)
      return [("sample", sample)]
    }
    if name.hasPrefix("vae_") { return try autoencoder(name) }
    if name.hasPrefix("text.") { return try text(name, details) }
    if name.hasPrefix("t2v.") { return try textToVideo(name, details) }
    if name.hasPrefix("v2v.") { return try videoToVideo(name, details) }
    throw SkippedCase(why: "cases of this kind are not supported yet")
  }

  /// The backbone with the case's adapters at their scales.
  func adapted(_ details: JSONObject) throws -> (any VideoBackbone, RunContext) {
    let model = try needed()
    var matches: [LoRAMatch] = []
    var strengths: [[Float]] = []
    for entry in details["adapters"]?.array ?? [] {
      guard let name = entry.array?.first?.string, let scale = entry.array?.last?.double else { continue }
      matches.append(try match(name))
      strengths.append([Float(scale)])
    }
    let source = AdaptedSource(model.source, adapters: matches)
    let backbone = try model.backbone.rebuilt(from: Weights(source))
    try source.checkApplied()
    return (backbone, RunContext(strengths: strengths))
  }

  /// The part of an adapter file that is for the backbone; what it has for text encoders is no matter here.
  private func match(_ name: String) throws -> LoRAMatch {
    let model = try needed()
    do {
      let file = try LoRAFile(path: "\(loras)/\(name)")
      let hasText = file.layers.contains { $0.component == .textEncoder }
      return try file.match(against: model.source, strict: !hasText)
    } catch {
      throw SkippedCase(why: "\(error)")
    }
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
