public import DiffusionLayers
import DiffusionModels
import Glibc
public import TensorCore

/// CogVideoX's stochastic second-order solver (DPM-Solver++ SDE; diffusers' `CogVideoXDPMScheduler`).
public struct CogVideoXDPM: Scheduler {
  public let timesteps: [Float]
  private let steps: CogVideoXSteps
  /// The clean sample predicted in the step before.
  private var lastClean: Tensor?

  public struct Config: SchedulerConfig, Equatable {
    let shared: CogVideoXSteps.Config

    /// - Throws: `ConfigError` for options that this sampler does not have.
    public init(_ json: JSONValue, file: String) throws {
      shared = try CogVideoXSteps.Config(json, file: file, sampler: "dpmsolver-multistep")
    }

    public func scheduler(steps: Int) throws(PipelineError) -> any Scheduler {
      try CogVideoXDPM(self, steps: steps)
    }
  }

  /// - Throws: `PipelineError.option` when the schedule has no such steps.
  public init(_ config: Config, steps: Int) throws(PipelineError) {
    self.steps = try CogVideoXSteps(config.shared, steps: steps)
    timesteps = self.steps.indices.map { Float($0) }
  }

  public func addNoise(_ clean: Tensor, noise: Tensor, at index: Int) -> Tensor {
    steps.addNoise(clean, noise: noise, at: index)
  }

  /// Half the logarithm of the signal-to-noise ratio.
  private func lambda(_ level: Double) -> Double { log((level / (1 - level)).squareRoot()) }

  public mutating func step(_ index: Int, sample: Tensor, modelOutput: Tensor, noise: () -> Tensor) -> Tensor
  {
    let (level, next) = (steps.level(index), steps.nextLevel(index))
    let clean = steps.clean(index, sample: sample, modelOutput: modelOutput)
    let width = lambda(next) - lambda(level)
    var target = clean
    var drawn = noise()
    if let lastClean, !steps.isLast(index) {
      let ratio = (lambda(level) - lambda(steps.level(index - 1))) / width
      target = (clean * Float(1 + 1 / (2 * ratio))).adding(lastClean, scaledBy: Float(-1 / (2 * ratio)))
      // The reference draws once for its first-order guess, which this step replaces.
      drawn = noise()
    }
    lastClean = clean
    let kept = ((1 - next) / (1 - level)).squareRoot() * exp(-width)
    let added = -expm1(-2 * width) * next.squareRoot()
    let fresh = (1 - next).squareRoot() * (1 - exp(-2 * width)).squareRoot()
    return (sample * Float(kept)).adding(target, scaledBy: Float(added)).adding(drawn, scaledBy: Float(fresh))
  }
}
