public import DiffusionLayers
import DiffusionModels
public import TensorCore

/// CogVideoX's form of DDIM: a shifted signal-to-noise ratio and no clipping (diffusers' `CogVideoXDDIMScheduler`).
public struct CogVideoXDDIM: Scheduler {
  public let timesteps: [Float]
  private let steps: CogVideoXSteps

  public struct Config: SchedulerConfig, Equatable {
    let shared: CogVideoXSteps.Config

    /// - Throws: `ConfigError` for options that this sampler does not have.
    public init(_ json: JSONValue, file: String) throws {
      shared = try CogVideoXSteps.Config(json, file: file, sampler: "ddim")
    }

    public func scheduler(steps: Int) throws(PipelineError) -> any Scheduler {
      try CogVideoXDDIM(self, steps: steps)
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

  public func step(_ index: Int, sample: Tensor, modelOutput: Tensor, noise: () -> Tensor) -> Tensor {
    let (level, next) = (steps.level(index), steps.nextLevel(index))
    let clean = steps.clean(index, sample: sample, modelOutput: modelOutput)
    let kept = ((1 - next) / (1 - level)).squareRoot()
    let added = next.squareRoot() - level.squareRoot() * kept
    return (sample * Float(kept)).adding(clean, scaledBy: Float(added))
  }
}
