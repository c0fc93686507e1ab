public import DiffusionLayers
import DiffusionModels
public import TensorCore

/// Consistency sampling of a rectified flow: every step jumps to the clean sample and noises it anew to the next
/// level (diffusers' `FlowMatchLCMScheduler`).
public struct FlowMatchLCM: Scheduler {
  /// Noise levels of the steps and, last, 0.
  public let sigmas: [Float]
  public let timesteps: [Float]

  /// The options of `FlowMatchEuler`.
  public struct Config: SchedulerConfig, Equatable {
    public var flow: FlowMatchEuler.Config

    /// - Throws: `ConfigError` for options that this sampler does not have.
    public init(_ json: JSONValue, file: String) throws {
      flow = try FlowMatchEuler.Config(json, file: file, sampler: "lcm")
      try ConfigReader(json, file: file).refuseValues(["scale_factors"], by: "lcm")
    }

    public func scheduler(steps: Int) -> any Scheduler { FlowMatchLCM(flow.sigmas(steps: steps), flow) }

    public func scheduler(steps: Int, strength: Float) -> (scheduler: any Scheduler, firstStep: Int) {
      (FlowMatchLCM(flow.sigmas(steps: steps, strength: strength), flow), 0)
    }
  }

  private init(_ sigmas: [Float], _ config: FlowMatchEuler.Config) {
    self.sigmas = sigmas + [0]
    timesteps = sigmas.map { $0 * Float(config.trainTimesteps) }
  }

  public func addNoise(_ clean: Tensor, noise: Tensor, at index: Int) -> Tensor {
    (noise * sigmas[index]).adding(clean, scaledBy: 1 - sigmas[index])
  }

  public func step(_ index: Int, sample: Tensor, modelOutput: Tensor, noise: () -> Tensor) -> Tensor {
    let clean = sample.adding(modelOutput, scaledBy: -sigmas[index])
    return (clean * (1 - sigmas[index + 1])).adding(noise(), scaledBy: sigmas[index + 1])
  }
}
