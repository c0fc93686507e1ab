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
      let times = try timesteps(inputs)
      let sample = try model.predict(
        latents, timesteps: times.count == 1 ? [Float](repeating: times[0], count: latents.shape[0]) : times,
        context: try input(inputs, "embeds"), context)
      return [("sample", sample)] + (name.hasPrefix("lora.") ? try adaptedText(matches, context) : [])
    }
    if name.hasPrefix("vae_") { return try autoencoder(name) }
    if name.hasPrefix("text.") { return try text(name, details) }
    if name.hasPrefix("t2v.") { return try textToVideo(name, details) }
    if name.hasPrefix("v2v.") { return try videoToVideo(name, details) }
    throw SkippedCase(why: "cases of this kind are not supported yet")
  }

  /// The backbone with the case's adapters at their scales.
  func adapted(_ details: JSONObject) throws -> (any VideoBackbone, [LoRAMatch], RunContext) {
    let (architecture, backbone) = try needed().backbone
    let adaptable: any WeightSource =
      if let clip = try? needed().clip() { JoinedSource([backbone, clip.source]) } else { backbone }
    var matches: [LoRAMatch] = []
    var strengths: [[Float]] = []
    for entry in details["adapters"]?.array ?? [] {
      guard let name = entry.array?.first?.string, let scale = entry.array?.last?.double else { continue }
      do {
        matches.append(try LoRAFile(path: "\(loras)/\(name)").match(against: adaptable, strict: true))
      } catch {
        throw SkippedCase(why: "\(error)")
      }
      strengths.append([Float(scale)])
    }
    let source = AdaptedSource(backbone, adapters: matches.map { $0.restricted(to: backbone) })
    let model = try architecture.build(Weights(source))
    try source.checkApplied()
    return (model, matches, RunContext(strengths: strengths))
  }

  /// The model, which cases of most kinds need.
  func needed() throws -> ReplayModel {
    guard let model else { throw SkippedCase(why: "it needs a model") }
    return model
  }

  func input(_ name: String, _ tensor: String) throws -> Tensor {
    try file.load("\(name).in.\(tensor)")
  }

  func timesteps(_ name: String) throws -> [Float] {
    let tensor = "\(name).in.timestep"
    if file.entries[tensor]?.dtype == .int64 { return try file.integers(tensor).map(Float.init) }
    return try file.load(tensor).array()
  }
}
