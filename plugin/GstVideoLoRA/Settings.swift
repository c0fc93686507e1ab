/// What the user sets on an element.

import DiffusionLayers
import DiffusionPipelines
import GStreamerKit

/// Debug output of both elements: `GST_DEBUG=videolora:5`.
let category = DebugCategory("videolora", "Video diffusion with LoRA adapters")

/// What a live stream shows until the model is ready.
enum WhileLoading: String, CaseIterable, Sendable {
  case hold, passthrough
}

/// The properties of both elements, at their defaults.
struct Settings: Sendable {
  static let defaultModel = "builtin:nano"
  static let defaultStrength = 0.5
  static let longestPrompt = 65_536

  var model = Settings.defaultModel
  var motionModule = ""
  var prompt = ""
  var negativePrompt = ""
  var promptEmbeds = ""
  var strength = Settings.defaultStrength
  var steps = 0
  var guidanceScale = -1.0
  var scheduler = SchedulerKind.auto
  var cacheThreshold = 0.0
  var seed: UInt64 = 0
  var clipLength = 0
  var overlap = -1
  var loraStrict = true
  var compose = ComposeMode.sum
  var precision = Precision.auto
  var threads = 0
  var memoryBudget: UInt64 = 0
  var whileLoading = WhileLoading.hold
  var clipCount = 1

  /// The sampler's part, as the engine takes it.
  var sampler: SamplerSettings {
    var sampler = SamplerSettings()
    sampler.prompt = prompt
    sampler.negativePrompt = negativePrompt
    sampler.promptEmbeds = promptEmbeds.isEmpty ? nil : promptEmbeds
    sampler.steps = steps
    sampler.guidanceScale = Float(guidanceScale)
    sampler.scheduler = scheduler
    sampler.seed = seed
    sampler.compose = compose
    sampler.cacheThreshold = Float(cacheThreshold)
    return sampler
  }

  /// The first setting that cannot work, as one sentence; nil when all can.
  var problem: ElementError? {
    if model.isEmpty {
      return ElementError(
        .librarySettings, "model is empty; set a model directory or \(Settings.defaultModel)")
    }
    for (name, text) in [("prompt", prompt), ("negative-prompt", negativePrompt)]
    where text.utf8.count > Settings.longestPrompt {
      return ElementError(
        .librarySettings,
        "\(name) is \(text.utf8.count) bytes long, the limit is \(Settings.longestPrompt); shorten it")
    }
    if clipLength > 0, overlap >= clipLength {
      return ElementError(
        .librarySettings, "overlap=\(overlap) must be smaller than clip-length=\(clipLength); lower overlap")
    }
    return nil
  }
}
