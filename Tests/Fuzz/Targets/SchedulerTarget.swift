import DiffusionLayers
import DiffusionPipelines
import TensorCore

extension FuzzTarget {
  /// The configuration of a scheduler: every sampler that takes it makes its schedule and runs it on a small
  /// sample.
  static let scheduler = FuzzTarget(
    "scheduler",
    words: jsonWords
      + texts(
        "\"_class_name\"", "\"FlowMatchEulerDiscreteScheduler\"", "\"UniPCMultistepScheduler\"",
        "\"DPMSolverMultistepScheduler\"", "\"EulerDiscreteScheduler\"",
        "\"EulerAncestralDiscreteScheduler\"",
        "\"DDIMScheduler\"", "\"LCMScheduler\"", "\"CogVideoXDDIMScheduler\"", "\"CogVideoXDPMScheduler\"",
        "\"FlowMatchLCMScheduler\"", "\"num_train_timesteps\"", "\"shift\"", "\"flow_shift\"",
        "\"beta_start\"",
        "\"beta_end\"", "\"beta_schedule\"", "\"scaled_linear\"", "\"squaredcos_cap_v2\"",
        "\"prediction_type\"",
        "\"v_prediction\"", "\"epsilon\"", "\"flow_prediction\"", "\"timestep_spacing\"", "\"trailing\"",
        "\"leading\"", "\"linspace\"", "\"steps_offset\"", "\"solver_order\"", "\"solver_type\"", "\"bh2\"",
        "\"use_flow_sigmas\"", "\"rescale_betas_zero_snr\"", "\"set_alpha_to_one\"", "\"snr_shift_scale\"",
        "\"original_inference_steps\"", "\"final_sigmas_type\"", "\"disable_corrector\"", "-Infinity")
  ) { bytes in
    let json = try JSONValue.parse(bytes, file: "scheduler_config.json")
    guard let object = json.object else {
      throw JSONError(.wrongType(key: "", expected: "an object", found: "something else"))
    }
    let model = try ModelScheduler(
      className: object["_class_name"]?.string, object, file: "scheduler_config.json")
    var refusal: (any Error)?
    var runs = 0
    for kind in SchedulerKind.allCases {
      for (steps, strength) in [(1, Float(1)), (3, 1), (7, 0.4)] {
        do {
          try run(try model.config(for: kind), steps: steps, strength: strength)
          runs += 1
        } catch let failure as FuzzFailure {
          throw failure
        } catch {
          refusal = error
        }
      }
    }
    if runs == 0, let refusal { throw refusal }
  }

  private static func run(_ config: any SchedulerConfig, steps: Int, strength: Float) throws {
    var (scheduler, first) = try config.scheduler(steps: steps, strength: strength)
    try require(first >= 0 && first < scheduler.timesteps.count, "it begins with step \(first)")
    let noise = Tensor([0.5, -1, 2, 0.25], shape: [1, 1, 1, 2, 2])
    var sample = scheduler.addNoise(Tensor.zeros(noise.shape), noise: noise, at: first)
    for index in first..<scheduler.timesteps.count {
      let input = scheduler.scaleModelInput(sample, index)
      sample = scheduler.step(index, sample: sample, modelOutput: input, noise: { noise })
    }
    try require(sample.shape == noise.shape, "the sample's shape became \(sample.shape)")
  }
}
