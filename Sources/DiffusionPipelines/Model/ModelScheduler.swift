import DiffusionLayers

/// The scheduler that a model names, and the part of its configuration that flow matching needs.
struct ModelScheduler: Sendable {
  /// diffusers' class name.
  let className: String
  let flow: FlowMatchEuler.Config

  static let flowMatchEulerClass = "FlowMatchEulerDiscreteScheduler"

  /// The configuration for a wish; `auto` demands that the model's own class is one we have.
  func config(for kind: SchedulerKind) throws(PipelineError) -> FlowMatchEuler.Config {
    guard kind == .flowMatchEuler || className == Self.flowMatchEulerClass else {
      throw .unsupported(what: "the model's scheduler \(className)", remedy: "set scheduler=flow-match-euler")
    }
    return flow
  }
}
