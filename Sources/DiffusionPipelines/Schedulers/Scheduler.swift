public import TensorCore

/// A sampler set up for one run: the noise levels it visits and how it steps from one to the next.
///
/// A value with mutable history: a run works on its own copy. Steps are taken in order, but may begin at any
/// index (a part of the schedule, as video to video takes).
public protocol Scheduler: Sendable {
  /// What the model is told at each step, whole or fractional as the reference has it.
  var timesteps: [Float] { get }
  /// Noise levels of the steps and the one after the last; empty where the sampler does not work on levels.
  var sigmas: [Float] { get }
  /// Standard deviation of the noise that a run from nothing starts with.
  var initNoiseSigma: Float { get }
  /// The sample as the model wants it at step `index`.
  func scaleModelInput(_ sample: Tensor, _ index: Int) -> Tensor
  /// The sample after step `index`.
  /// - Parameter noise: a fresh draw of unit normal noise in the sample's shape, for samplers that add some.
  mutating func step(_ index: Int, sample: Tensor, modelOutput: Tensor, noise: () -> Tensor) -> Tensor
  /// Clean latents with `noise` (unit normal) at the level of step `index`.
  func addNoise(_ clean: Tensor, noise: Tensor, at index: Int) -> Tensor
}

extension Scheduler {
  public var sigmas: [Float] { [] }
  public var initNoiseSigma: Float { 1 }
  public func scaleModelInput(_ sample: Tensor, _ index: Int) -> Tensor { sample }
}

/// A sampler's options, from which a run's scheduler is made.
public protocol SchedulerConfig: Sendable {
  /// The whole schedule from pure noise.
  /// - Throws: `PipelineError.option` when the schedule cannot have so many steps.
  func scheduler(steps: Int) throws(PipelineError) -> any Scheduler

  /// What `strength` (0…1] of the schedule leaves for video to video, and the step to begin with; strength 1 is
  /// all of it, anything else runs one step at least.
  func scheduler(steps: Int, strength: Float) throws(PipelineError)
    -> (scheduler: any Scheduler, firstStep: Int)
}

extension SchedulerConfig {
  /// The last `⌊steps · strength⌋` steps of the whole schedule, as diffusers cuts it; flows start at any level
  /// instead.
  public func scheduler(steps: Int, strength: Float) throws(PipelineError)
    -> (scheduler: any Scheduler, firstStep: Int)
  {
    (try scheduler(steps: steps), firstStep(of: steps, strength: strength))
  }

  /// Where `strength` begins in the whole schedule.
  func firstStep(of steps: Int, strength: Float) -> Int {
    let share = Double(max(0, min(1, strength)))
    return steps - max(1, min(steps, Int(Double(steps) * share)))
  }
}

/// Checks of a number of steps that several samplers share.
func checkSteps(_ steps: Int, atMost limit: Int, _ why: String) throws(PipelineError) {
  guard (1...limit).contains(steps) else {
    throw .option(name: "steps", value: "\(steps)", reason: "must lie in 1…\(limit): \(why)")
  }
}
