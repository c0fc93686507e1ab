import DiffusionLayers
import DiffusionModels
import TensorCore

/// Whole runs of the sampler.
extension CaseReplayer {
  func textToVideo(_ name: String, _ details: JSONObject) throws -> [(String, Tensor)] {
    let className = details["scheduler"]?.string ?? ""
    guard className == ModelScheduler.flowMatchEulerClass else {
      throw SkippedCase(why: "the scheduler \(className) is not supported yet")
    }
    let (model, context) = try adapted(details)
    let changed = details["changed"] ?? .object(JSONObject())
    let loop = DenoisingLoop(
      transformer: model, coordinatePlanes: false,
      scheduler: FlowMatchEuler(
        try FlowMatchEuler.Config(changed, file: name), steps: try details.int("steps")),
      conditioning: Conditioning(positive: try input(name, "embeds"), negative: try input(name, "negative")),
      guidanceScale: Float(try details.double("guidance")))
    var steps: [Tensor] = []
    let latents = try loop.run(try input(name, "latents"), context) { _, sample in steps.append(sample) }
    return [
      ("latents", latents),
      ("steps", Tensor.concatenated(steps.map { $0.reshaped([1] + $0.shape) }, axis: 0)),
    ]
  }
}
