/// The property tables of both elements: name, range, default, when it may be set, and what it means.

import CGStreamer
import DiffusionLayers
import DiffusionPipelines
import GStreamerKit

// MARK: - Enum types

private let schedulerType: GType = registerEnum(
  "GstVideoLoRAScheduler",
  SchedulerKind.allCases.map { kind in
    switch kind {
    case .auto: (kind.rawValue, "The model's own scheduler")
    case .flowMatchEuler: (kind.rawValue, "Flow matching, Euler steps")
    case .unipc: (kind.rawValue, "UniPC, a predictor-corrector for few steps")
    case .euler: (kind.rawValue, "Euler steps, for models that predict noise")
    case .eulerAncestral: (kind.rawValue, "Euler steps with fresh noise, for models that predict noise")
    case .ddim: (kind.rawValue, "DDIM, for models that predict noise")
    case .dpmSolverMultistep: (kind.rawValue, "DPM-Solver++, multistep")
    case .lcm: (kind.rawValue, "Latent consistency, for distilled models and adapters")
    }
  })

private let composeType: GType = registerEnum(
  "GstVideoLoRACompose",
  ComposeMode.allCases.map { ($0.rawValue, $0.summary) })

private let precisionType: GType = registerEnum(
  "GstVideoLoRAPrecision",
  Precision.allCases.map { precision in
    switch precision {
    case .auto: (precision.rawValue, "bf16 where the processor multiplies bf16, else f32")
    case .f32: (precision.rawValue, "32-bit floats, the reference")
    case .bf16: (precision.rawValue, "16-bit brain floats")
    case .int8: (precision.rawValue, "8-bit integers")
    }
  })

private let whileLoadingType: GType = registerEnum(
  "GstVideoLoRAWhileLoading",
  WhileLoading.allCases.map { mode in
    (
      mode.rawValue,
      mode == .hold ? "Hold frames until the model is ready" : "Pass frames untouched until it is"
    )
  })

// MARK: - Tables

/// Model, adapters and sampler: what `videolora` and `videolorasrc` share.
private let sharedProperties: [Property<Settings>] = [
  .string(
    "model", \.model, default: Settings.defaultModel, .ready, "Model",
    "Model directory in diffusers' layout, Wan's own files (folder or .safetensors), a Stable Diffusion 1.5 checkpoint, or "
      + "a builtin model"),
  .string(
    "motion-module", \.motionModule, default: nil, .ready, "Motion module",
    "AnimateDiff motion module (.safetensors file or motion_adapter folder) for a Stable Diffusion 1.5 model without one"
  ),
  .string(
    "prompt", \.prompt, default: "", .playing, "Prompt", "What to draw; takes effect at the next clip"),
  .string(
    "negative-prompt", \.negativePrompt, default: "", .playing, "Negative prompt",
    "What to avoid; used when guidance is on"),
  .string(
    "prompt-embeds", \.promptEmbeds, default: nil, .playing, "Prompt embeddings",
    "A .safetensors file with prompt_embeds and negative_prompt_embeds, in place of the prompts"),
  .int(
    "steps", \.steps, 0...1000, default: 0, .playing, "Steps", "Denoising steps (0 = the model's default)"),
  .double(
    "guidance-scale", \.guidanceScale, -1...100, default: -1, .playing, "Guidance scale",
    "Strength of classifier-free guidance (1 = off, -1 = the model's default)"),
  .enumeration(
    "scheduler", \.scheduler, type: { schedulerType }, default: .auto, .playing, "Scheduler",
    "Sampling algorithm"),
  .double(
    "cache-threshold", \.cacheThreshold, 0...1, default: 0, .playing, "Cache threshold",
    "First-block cache: steps whose first block changes by less than this share reuse the other blocks of the step "
      + "before, which is faster and less exact (0 = off)"),
  .uint64(
    "seed", \.seed, default: 0, .playing, "Seed", "Seed of the noise; clip i uses a seed made from both"),
  .int(
    "clip-length", \.clipLength, 0...1024, default: 0, .ready, "Clip length",
    "Frames in one window (0 = the model's default)"),
  .enumeration(
    "compose", \.compose, type: { composeType }, default: .sum, .playing, "Compose",
    "How several adapters are combined"),
  .bool(
    "lora-strict", \.loraStrict, default: true, .ready, "Strict LoRA",
    "Refuse an adapter file with keys that do not fit the model"),
  .enumeration(
    "precision", \.precision, type: { precisionType }, default: .auto, .ready, "Precision", "Arithmetic"),
  .int(
    "threads", \.threads, 0...1024, default: 0, .ready, "Threads",
    "Threads of the engine, one setting per process: the first element's wins (0 = all cores)"),
  .uint64(
    "memory-budget", \.memoryBudget, default: 0, .ready, "Memory budget",
    "Bytes the model and its working memory may take; needing more is an error (0 = no limit)"),
]

/// Properties of `videolora`.
let elementProperties = PropertyTable<Settings>(
  sharedProperties + [
    .double(
      "strength", \.strength, 0...1, default: Settings.defaultStrength, .controllable, "Strength",
      "How far from the source: 0 returns it untouched, 1 ignores it"),
    .int(
      "overlap", \.overlap, -1...1023, default: -1, .ready, "Overlap",
      "Frames a window shares with the one before, cross-faded (-1 = the model's default)"),
    .enumeration(
      "while-loading", \.whileLoading, type: { whileLoadingType }, default: .hold, .ready, "While loading",
      "What happens to frames that arrive before the model is ready"),
  ])

/// Properties of `videolorasrc`.
let sourceProperties = PropertyTable<Settings>(
  sharedProperties + [
    .int(
      "num-clips", \.clipCount, -1...Int32.max, default: 1, .ready, "Number of clips",
      "Clips to make before end of stream (-1 = no end)")
  ])
