import DiffusionLayers
import DiffusionModels
import TensorCore

/// Single schedulers over given model outputs.
extension CaseReplayer {
  func scheduler(_ name: String, _ details: JSONObject) throws -> [(String, Tensor)] {
    let className = details["class"]?.string ?? ""
    guard className == ModelScheduler.flowMatchEulerClass else {
      throw SkippedCase(why: "the scheduler \(className) is not supported yet")
    }
    let config = try FlowMatchEuler.Config(details["config"] ?? .object(JSONObject()), file: name)
    let scheduler = FlowMatchEuler(config, steps: try details.int("steps"))
    let velocities = try input(name, "eps")
    var sample = try input(name, "sample")
    var previous: [Tensor] = []
    for index in 0..<scheduler.timesteps.count {
      sample = scheduler.step(index, sample: sample, velocity: velocities.select(0, index))
      previous.append(sample.reshaped([1] + sample.shape))
    }
    return [
      ("timesteps", Tensor(scheduler.timesteps, shape: [scheduler.timesteps.count])),
      ("sigmas", Tensor(scheduler.sigmas, shape: [scheduler.sigmas.count])),
      ("prev", Tensor.concatenated(previous, axis: 0)),
    ]
  }
}
