import DiffusionLayers
import DiffusionModels
import DiffusionPipelines
import TensorCore
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// Every sampler against diffusers, what their options refuse, and which part of a schedule a strength takes.
@Suite struct SchedulerTests {
  @Test func everyOptionAgreesWithTheReference() throws {
    let output = "/tmp/videolora-schedulers-\(getpid()).safetensors"
    defer { unlink(output) }
    let outcome = try Replay.run(
      model: nil, golden: Fixture.path("schedulers.safetensors"), loras: nil, output: output)
    #expect(outcome.skipped.isEmpty, "\(outcome.skipped)")
    let (golden, replay) = (try Fixture.safetensors("schedulers"), try SafetensorsFile(path: output))
    let expected = golden.names.filter { $0.contains(".out.") }
    #expect(expected.count == 231)
    for name in expected {
      let difference = Difference(try replay[name], try golden[name])
      // Zero terminal SNR starts at σ = 4096, where single precision leaves four digits of the clean sample.
      let bound = name.contains("zero_snr") ? 5e-5 : 5e-6
      #expect(difference.relative < bound, "\(name): \(difference)")
    }
  }

  private static let trained = ["prediction_type": JSONValue.string("v_prediction")]
  private static let flow: [String: JSONValue] = [
    "prediction_type": .string("flow_prediction"), "use_flow_sigmas": .bool(true), "flow_shift": .integer(3),
  ]

  private func scheduler(_ className: String, _ options: [String: JSONValue]) throws -> ModelScheduler {
    var json = JSONObject()
    for (key, value) in options.sorted(by: { $0.key < $1.key }) { json[key] = value }
    return try ModelScheduler(className: className + "Scheduler", json, file: "scheduler_config.json")
  }

  private static let refusals: [(String, String, JSONValue)] = [
    ("DDIM", "thresholding", .bool(true)), ("LCM", "thresholding", .bool(true)),
    ("DDIM", "prediction_type", .string("flow_prediction")), ("DDIM", "beta_schedule", .string("sigmoid")),
    ("DDIM", "beta_end", .integer(0)), ("DDIM", "beta_end", .number(0.9)),
    ("DDIM", "num_train_timesteps", .integer(1)), ("DDIM", "num_train_timesteps", .integer(1_000_000_000)),
    ("DDIM", "trained_betas", .array([.number(0.1)])), ("DDIM", "steps_offset", .integer(1000)),
    ("DDIM", "timestep_spacing", .string("random")), ("DDIM", "clip_sample_range", .integer(-1)),
    ("EulerDiscrete", "use_beta_sigmas", .bool(true)),
    ("EulerDiscrete", "timestep_type", .string("continuous")),
    ("EulerDiscrete", "interpolation_type", .string("log_linear")),
    ("EulerAncestralDiscrete", "prediction_type", .string("sample")),
    ("LCM", "original_inference_steps", .integer(0)), ("LCM", "timestep_scaling", .integer(0)),
    ("UniPCMultistep", "solver_order", .integer(4)), ("UniPCMultistep", "solver_type", .string("bh3")),
    ("UniPCMultistep", "predict_x0", .bool(false)), ("UniPCMultistep", "lower_order_final", .bool(false)),
    ("UniPCMultistep", "use_beta_sigmas", .bool(true)), ("UniPCMultistep", "thresholding", .bool(true)),
    ("UniPCMultistep", "use_dynamic_shifting", .bool(true)),
    ("UniPCMultistep", "shift_terminal", .number(0.1)),
    ("UniPCMultistep", "disable_corrector", .array([.string("all")])),
    ("DPMSolverMultistep", "algorithm_type", .string("dpmsolver")),
    ("DPMSolverMultistep", "use_lu_lambdas", .bool(true)),
    ("DPMSolverMultistep", "variance_type", .string("learned")),
    ("DPMSolverMultistep", "lambda_min_clipped", .integer(100)),
    ("FlowMatchEulerDiscrete", "shift", .integer(0)),
    ("FlowMatchEulerDiscrete", "stochastic_sampling", .bool(true)),
    ("FlowMatchEulerDiscrete", "use_karras_sigmas", .bool(true)),
    ("FlowMatchLCM", "scale_factors", .array([.integer(1)])),
    ("CogVideoXDPM", "snr_shift_scale", .integer(0)), ("CogVideoXDDIM", "prediction_type", .string("none")),
  ]

  @Test(arguments: refusals.indices) func optionsWithoutAnAnswerAreNamed(_ index: Int) throws {
    let (className, key, value) = Self.refusals[index]
    do {
      _ = try scheduler(className, [key: value])
      Issue.record("\(className) took \(key)")
    } catch let error as ConfigError {
      #expect(error.file == "scheduler_config.json")
      // Betas that leave no signal are blamed on the schedule that they make up.
      #expect(error.key == key || (key == "beta_end" && error.key == "beta_schedule"), "\(error)")
    }
  }

  @Test func harmlessOptionsAreIgnored() throws {
    for name in ["DDIM", "EulerDiscrete", "UniPCMultistep", "DPMSolverMultistep", "LCM", "CogVideoXDPM"] {
      _ = try scheduler(
        name,
        [
          "sample_max_value": .integer(1), "dynamic_thresholding_ratio": .number(0.995), "solver_p": .null,
          "skip_prk_steps": .bool(true), "use_karras_sigmas": .bool(false), "variance_type": .null,
        ]
      ).config(for: .auto)
    }
  }

  /// diffusers writes DPM-Solver's absent bound as Python does.
  @Test func configurationsAsPythonWritesThem() throws {
    let text =
      #"{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity, "solver_order": 2}"#
    let json = try #require(JSONValue.parse(text).object)
    let scheduler = try ModelScheduler(className: json["_class_name"]?.string, json, file: "")
    #expect((try scheduler.config(for: .auto) as? DPMSolverMultistep.Config)?.lastTimestep == 1000)
    for wrong in ["{\"a\": -Infinit}", "{\"a\": Infinity}", "-", "[-Infinity1]"] {
      #expect(throws: JSONError.self) { try JSONValue.parse(wrong) }
    }
  }

  /// Which samplers can stand in for the model's own.
  @Test func otherSamplersKeepTheModelsMeaning() throws {
    let flows: Set<SchedulerKind> = [.auto, .flowMatchEuler, .unipc, .dpmSolverMultistep, .lcm]
    for model in [
      try scheduler("UniPCMultistep", Self.flow), ModelScheduler.flowMatching,
      try scheduler("FlowMatchEulerDiscrete", ["shift": .integer(3)]),
    ] {
      for kind in SchedulerKind.allCases where flows.contains(kind) { _ = try model.config(for: kind) }
      for kind in SchedulerKind.allCases where !flows.contains(kind) {
        #expect(throws: PipelineError.self) { try model.config(for: kind) }
      }
    }
    for name in ["DDIM", "EulerDiscrete", "UniPCMultistep", "CogVideoXDPM", "PNDM"] {
      let model = try scheduler(name, Self.trained)
      for kind in SchedulerKind.allCases where kind != .auto && kind != .flowMatchEuler {
        _ = try model.config(for: kind)
      }
      #expect(throws: PipelineError.self) { try model.config(for: .flowMatchEuler) }
    }
    #expect(throws: PipelineError.self) { try scheduler("PNDM", Self.trained).config(for: .auto) }

    // The shift comes along under the name that the other class has for it.
    let levels = try [SchedulerKind.flowMatchEuler, .unipc, .dpmSolverMultistep, .lcm].map {
      try scheduler("FlowMatchEulerDiscrete", ["shift": .integer(3)]).config(for: $0)
        .scheduler(steps: 8, strength: 0.5).scheduler.sigmas
    }
    for other in levels { #expect(other == levels[0]) }
    #expect(abs(levels[0][0] - 0.75) < 1e-6)
    // So do betas and prediction.
    let betas: [String: JSONValue] = ["beta_end": .number(0.015)]
    let unipc = try scheduler("UniPCMultistep", betas.merging(Self.trained) { $1 })
    let ddim = try #require(unipc.config(for: .ddim) as? DDIM.Config)
    let plain = try #require(scheduler("DDIM", betas).config(for: .auto) as? DDIM.Config)
    #expect(ddim.prediction == .vPrediction && ddim.schedule == plain.schedule)
  }

  /// Flows start at the level that the strength says; other schedules are cut at a step, as diffusers cuts them.
  @Test func strengthChoosesTheStart() throws {
    for kind in [SchedulerKind.auto, .flowMatchEuler, .dpmSolverMultistep, .lcm] {
      let config = try scheduler("UniPCMultistep", Self.flow).config(for: kind)
      var last: Float = 0
      for strength in stride(from: Float(0.05), through: 1, by: 0.05) {
        let (scheduler, first) = try config.scheduler(steps: 10, strength: strength)
        #expect(first == 0 && scheduler.timesteps.count == max(1, Int((10 * Double(strength)).rounded())))
        #expect(scheduler.sigmas[0] > last, "\(kind) at \(strength)")
        last = scheduler.sigmas[0]
      }
      #expect(last > 0.99999)
    }
    for name in ["DDIM", "EulerDiscrete", "UniPCMultistep", "DPMSolverMultistep", "LCM", "CogVideoXDPM"] {
      let config = try scheduler(name, Self.trained).config(for: .auto)
      for (strength, first) in [(Float(1), 0), (0.5, 5), (0.59, 5), (0.01, 9)] {
        let (scheduler, start) = try config.scheduler(steps: 10, strength: strength)
        #expect(start == first && scheduler.timesteps.count == 10)
      }
    }
  }

  /// Any number of steps gives that many falling timesteps or an error, never a trap.
  @Test func anyNumberOfSteps() throws {
    for name in [
      "DDIM", "EulerDiscrete", "EulerAncestralDiscrete", "UniPCMultistep", "DPMSolverMultistep", "LCM",
      "CogVideoXDPM",
    ] {
      for spacing in TimestepSpacing.allCases {
        let config = try scheduler(
          name,
          ["timestep_spacing": .string(spacing.rawValue), "steps_offset": .integer(1)]
            .merging(Self.trained) { $1 }
        ).config(for: .auto)
        for steps in [0, 1, 2, 3, 7, 49, 50, 61, 103, 499, 998, 999, 1000, 1001, 100_000] {
          do {
            let scheduler = try config.scheduler(steps: steps)
            let timesteps = scheduler.timesteps
            let falls = zip(timesteps, timesteps.dropFirst()).allSatisfy { $0 > $1 }
            let inRange = timesteps.allSatisfy { $0 >= 0 && $0 < 1000 }
            #expect(timesteps.count == steps && falls && inRange, "\(name) \(spacing) \(steps)")
          } catch {
            #expect(steps < 1 || steps > 49, "\(name) \(spacing) \(steps): \(error)")
          }
        }
      }
    }
  }

  /// A run that begins within a multistep schedule has no history to lean on.
  @Test func multistepSolversBeginAnywhere() throws {
    for (name, options) in [("UniPCMultistep", Self.flow), ("DPMSolverMultistep", Self.trained)] {
      let config = try scheduler(name, options).config(for: .auto)
      var random = TorchRandom(seed: 1)
      let (clean, noise) = (random.randn([1, 2, 2, 3]), random.randn([1, 2, 2, 3]))
      for first in 0..<6 {
        var run = try config.scheduler(steps: 6)
        var sample = run.addNoise(clean, noise: noise, at: first)
        // A perfect model brings back the clean sample from everywhere.
        for index in first..<6 {
          let sigma = run.sigmas[index]
          let alpha = name == "UniPCMultistep" ? 1 - sigma : 1 / (sigma * sigma + 1).squareRoot()
          let output =
            name == "UniPCMultistep"
            ? noise - clean : (noise * alpha) - clean * (sigma * alpha)
          sample = run.step(index, sample: sample, modelOutput: output) { noise }
        }
        #expect(Difference(sample, clean).relative < 1e-4, "\(name) from \(first)")
      }
    }
  }
}
