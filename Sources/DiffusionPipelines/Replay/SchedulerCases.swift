import DiffusionLayers
import DiffusionModels
import TensorCore

/// Single schedulers over given model outputs.
extension CaseReplayer {
  func scheduler(_ name: String, _ details: JSONObject) throws -> [(String, Tensor)] {
    let className = details["class"]?.string ?? ""
    let options = details["config"] ?? .object(JSONObject())
    guard var config = try ModelScheduler.config(className: className, options, file: name) else {
      throw SkippedCase(why: "the scheduler \(className) is not supported")
    }
    if var ddim = config as? DDIM.Config {
      ddim.eta = Float(try details.object("step_kwargs", default: JSONObject()).double("eta", default: 0))
      config = ddim
    }
    let whole = try config.scheduler(steps: try details.int("steps"))
    var scheduler = whole
    let outputs = try input(name, "eps")
    var draws = try RecordedNoise(file, name)
    var sample = try input(name, "sample")
    var (scaled, previous): ([Tensor], [Tensor]) = ([], [])
    for index in scheduler.timesteps.indices {
      scaled.append(scheduler.scaleModelInput(sample, index))
      sample = scheduler.step(index, sample: sample, modelOutput: outputs.select(0, index)) { draws.next() }
      previous.append(sample)
    }
    try draws.check()
    var results = [
      ("timesteps", Tensor(scheduler.timesteps, shape: [scheduler.timesteps.count])),
      ("prev", stacked(previous)), ("scaled_inputs", stacked(scaled)),
    ]
    if !scheduler.sigmas.isEmpty {
      results.append(("sigmas", Tensor(scheduler.sigmas, shape: [scheduler.sigmas.count])))
    }
    if file.entries["\(name).in.clean"] != nil {
      let noisy = whole.addNoise(
        try input(name, "clean"), noise: try input(name, "addnoise"), at: try details.int("noisy_index"))
      results.append(("noisy", noisy))
    }
    return results
  }

  /// Tensors of one shape along a new first axis.
  func stacked(_ tensors: [Tensor]) -> Tensor {
    Tensor.concatenated(tensors.map { $0.reshaped([1] + $0.shape) }, axis: 0)
  }
}

/// The normal draws that a golden recorded for one case, in their order.
struct RecordedNoise {
  private let name: String
  private let draws: [Tensor]
  private var used = 0

  /// - Parameter skipping: draws at the beginning that were not the sampler's.
  init(_ file: SafetensorsFile, _ name: String, skipping: Int = 0) throws {
    self.name = name
    var draws: [Tensor] = []
    while file.entries["\(name).noise.\(draws.count + skipping)"] != nil {
      draws.append(try file.load("\(name).noise.\(draws.count + skipping)"))
    }
    self.draws = draws
  }

  /// The next draw; zeros once they ran out, which `check` reports.
  mutating func next() -> Tensor {
    used += 1
    return used <= draws.count ? draws[used - 1] : Tensor(repeating: 0, shape: draws.last?.shape ?? [1])
  }

  /// Throws unless as many draws were taken as recorded.
  func check() throws {
    guard used == draws.count else {
      throw SkippedCase(why: "the golden holds \(draws.count) draws of noise, the sampler took \(used)")
    }
  }
}
