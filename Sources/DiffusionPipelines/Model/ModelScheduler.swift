package import DiffusionLayers
import DiffusionModels

/// The scheduler that a model names with its configuration, and the other samplers that can take its place.
package struct ModelScheduler: Sendable {
  /// diffusers' class name.
  package let className: String
  /// As the file has it.
  private let raw: JSONObject
  /// With the names that every sampler looks for.
  private let json: JSONValue
  private let file: String
  /// Whether the model predicts a flow rather than noise of a training schedule.
  private let isFlow: Bool

  /// For models without a scheduler of their own.
  package static let flowMatching = ModelScheduler()

  private init() {
    className = "FlowMatchEulerDiscreteScheduler"
    raw = JSONObject()
    json = .object(Self.completed(raw))
    file = ""
    isFlow = true
  }

  /// What AnimateDiff's authors sample with, for image models that a motion module is added to.
  /// - Parameter prediction: what the image model predicts; noise where nil.
  static func animateDiff(prediction: String? = nil) throws -> ModelScheduler {
    try ModelScheduler(
      className: "DDIMScheduler",
      [
        "beta_start": .number(0.00085), "beta_end": .number(0.012), "beta_schedule": .string("linear"),
        "num_train_timesteps": .integer(1000), "steps_offset": .integer(1), "clip_sample": .bool(false),
        "set_alpha_to_one": .bool(false), "timestep_spacing": .string("linspace"),
        "prediction_type": .string(prediction ?? PredictionType.epsilon.rawValue),
      ], file: "AnimateDiff's scheduler")
  }

  /// Reads a parsed `scheduler_config.json`.
  /// - Parameter className: diffusers' class; nil is flow matching.
  /// - Throws: `ConfigError` for options of a class we have that we do not.
  package init(className: String?, _ json: JSONObject, file: String) throws {
    let className = className ?? Self.flowMatching.className
    self.className = className
    self.file = file
    let prediction = json["prediction_type"]?.string
    let isTrainedOnNoise =
      Self.noiseClasses.contains(className) || prediction != nil || json["beta_schedule"]?.string != nil
    isFlow = className.hasPrefix("FlowMatch") || prediction == "flow_prediction" || !isTrainedOnNoise
    raw = json
    self.json = .object(isFlow ? Self.completed(json) : json)
    _ = try Self.config(className: className, self.json, file: file)
  }

  /// A flow's options with the shift and the model's prediction under the names of every sampler.
  private static func completed(_ json: JSONObject) -> JSONObject {
    var json = json
    let shift = json["shift"].flatMap { $0 == .null ? nil : $0 } ?? json["flow_shift"]
    json["shift"] = shift
    json["flow_shift"] = shift
    json["prediction_type"] = .string("flow_prediction")
    json["use_flow_sigmas"] = .bool(true)
    return json
  }

  /// Classes that sample noise predictions only.
  private static let noiseClasses: Set<String> = [
    "DDIMScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "LCMScheduler",
    "CogVideoXDDIMScheduler", "CogVideoXDPMScheduler", "DDPMScheduler", "PNDMScheduler",
  ]

  /// The configuration of a class of diffusers; nil for one we do not have.
  /// - Throws: `ConfigError` naming the option that we do not have.
  static func config(className: String, _ json: JSONValue, file: String) throws -> (any SchedulerConfig)? {
    switch className {
    case "FlowMatchEulerDiscreteScheduler": try FlowMatchEuler.Config(json, file: file)
    case "FlowMatchLCMScheduler": try FlowMatchLCM.Config(json, file: file)
    case "UniPCMultistepScheduler": try UniPCMultistep.Config(json, file: file)
    case "DPMSolverMultistepScheduler": try DPMSolverMultistep.Config(json, file: file)
    case "EulerDiscreteScheduler": try EulerDiscrete.Config(json, file: file)
    case "EulerAncestralDiscreteScheduler": try EulerAncestralDiscrete.Config(json, file: file)
    case "DDIMScheduler": try DDIM.Config(json, file: file)
    case "LCMScheduler": try LCM.Config(json, file: file)
    case "CogVideoXDDIMScheduler": try CogVideoXDDIM.Config(json, file: file)
    case "CogVideoXDPMScheduler": try CogVideoXDPM.Config(json, file: file)
    default: nil
    }
  }

  /// The configuration for a wish. Another sampler than the model's keeps the model's noise schedule and the
  /// meaning of its predictions (diffusers' `from_config`).
  /// - Throws: `PipelineError` for combinations without a meaning, `ConfigError` for options that the sampler lacks.
  package func config(for kind: SchedulerKind) throws -> any SchedulerConfig {
    let wanted = try className(for: kind)
    guard let config = try Self.config(className: wanted, json, file: file) else {
      let names = SchedulerKind.allCases.filter { (try? className(for: $0)) != nil && $0 != .auto }
      throw PipelineError.unsupported(
        what: "the model's scheduler \(wanted)",
        remedy: "set scheduler to one of " + names.map(\.rawValue).joined(separator: ", "))
    }
    return config
  }

  private func className(for kind: SchedulerKind) throws(PipelineError) -> String {
    let isCogVideoX = className.hasPrefix("CogVideoX")
    switch kind {
    case .auto: return className
    case .unipc: return "UniPCMultistepScheduler"
    case .dpmSolverMultistep: return isCogVideoX ? "CogVideoXDPMScheduler" : "DPMSolverMultistepScheduler"
    case .lcm: return isFlow ? "FlowMatchLCMScheduler" : "LCMScheduler"
    case .flowMatchEuler where isFlow: return "FlowMatchEulerDiscreteScheduler"
    case .euler where !isFlow: return "EulerDiscreteScheduler"
    case .eulerAncestral where !isFlow: return "EulerAncestralDiscreteScheduler"
    case .ddim where !isFlow: return isCogVideoX ? "CogVideoXDDIMScheduler" : "DDIMScheduler"
    case .flowMatchEuler:
      throw .option(
        name: "scheduler", value: kind.rawValue,
        reason: "samples models that predict a flow, and this one predicts noise; set auto, unipc, euler, "
          + "euler-ancestral, ddim, dpmsolver-multistep or lcm")
    case .euler, .eulerAncestral, .ddim:
      throw .option(
        name: "scheduler", value: kind.rawValue,
        reason: "samples models that predict noise, and this one predicts a flow; set auto, "
          + "flow-match-euler, unipc, dpmsolver-multistep or lcm")
    }
  }

  /// How the model was trained: a flow with its shift, or the noise levels of a schedule with the kind of prediction.
  package func trainingNoise() throws -> TrainingNoise {
    if isFlow {
      return .flow(
        shift: try FlowMatchEuler.Config(json, file: file).shift,
        timesteps: json.object?["num_train_timesteps"]?.int ?? 1000)
    }
    let name = json.object?["prediction_type"]?.string ?? PredictionType.epsilon.rawValue
    guard let prediction = PredictionType(rawValue: name) else {
      throw ConfigError(file: file, key: "prediction_type", reason: "is '\(name)', which cannot be trained")
    }
    let schedule = try NoiseSchedule(
      json, file: file, form: className.hasPrefix("CogVideoX") ? .cogVideoX : .discrete)
    return .schedule(alphasCumprod: schedule.alphasCumprod, prediction: prediction)
  }

  /// This scheduler with some options changed and as another class, as a golden's cases ask for.
  func changed(to className: String, _ changes: JSONObject) throws -> ModelScheduler {
    var json = raw
    for key in changes.keys { json[key] = changes[key] }
    return try ModelScheduler(className: className, json, file: file)
  }
}
