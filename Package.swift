// swift-tools-version: 6.2
// gst-videolora: a video diffusion engine and the GStreamer elements that wrap it.

import PackageDescription

/// Language settings of every Swift target: imports show the direction of dependencies.
let settings: [SwiftSetting] = [
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
]

/// With VIDEOLORA_STATIC set (the Makefile's release build) the Swift runtime is linked into the plugin, so
/// that one file loads on a machine without a toolchain, and only the two entry points are exported.
let isStatic = Context.environment["VIDEOLORA_STATIC"] != nil
let pluginSwiftSettings: [SwiftSetting] = isStatic ? [.unsafeFlags(["-static-stdlib"])] : []
let pluginLinkerSettings: [LinkerSetting] =
  isStatic
  ? [
    .unsafeFlags([
      "-static-stdlib", "-use-ld=lld", "-Xlinker",
      "--version-script=\(Context.packageDirectory)/plugin/plugin.map",
      "-Xlinker", "--gc-sections", "-Xlinker", "-s",
    ])
  ] : []

/// With VIDEOLORA_FUZZ set (`make fuzz`) the fuzzing tool exists, which must be built with -sanitize=fuzzer.
let fuzzTargets: [Target] =
  Context.environment["VIDEOLORA_FUZZ"] == nil
  ? []
  : [
    .target(name: "CAllocationCounter", path: "Tests/Fuzz/AllocationCounter"),
    .executableTarget(
      name: "videolora-fuzz", dependencies: ["CAllocationCounter", "FuzzTargets"], path: "Tests/Fuzz/Driver",
      swiftSettings: settings),
  ]

let package = Package(
  name: "VideoLoRA",
  products: [
    .executable(name: "videolora", targets: ["videolora"]),
    .library(name: "gstvideolora", type: .dynamic, targets: ["GstVideoLoRA"]),
    .library(
      name: "VideoLoRA", targets: ["TensorCore", "DiffusionLayers", "DiffusionModels", "DiffusionPipelines"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2")
  ],
  targets: [
    // Libraries of the system, header-only modules.
    .systemLibrary(
      name: "COpenBLAS", pkgConfig: "openblas", providers: [.apt(["libopenblas-dev"])]),
    .systemLibrary(name: "COneDNN", providers: [.apt(["libdnnl-dev"])]),
    .systemLibrary(
      name: "CGStreamer", path: "plugin/CGStreamer",
      pkgConfig: "gstreamer-video-1.0 gstreamer-app-1.0 gstreamer-controller-1.0",
      providers: [.apt(["libgstreamer1.0-dev", "libgstreamer-plugins-base1.0-dev"])]),
    .systemLibrary(
      name: "CGStreamerCheck", path: "plugin/CGStreamerCheck", pkgConfig: "gstreamer-check-1.0",
      providers: [.apt(["libgstreamer1.0-dev"])]),

    // C: SIMD kernels chosen at run time, and the embedded default model.
    .target(name: "CKernels"),
    .target(name: "CBuiltinModels"),

    // C++: libsentencepiece behind a C header.
    .target(name: "CSentencePiece", linkerSettings: [.linkedLibrary("sentencepiece")]),

    // The engine.
    .target(
      name: "TensorCore", dependencies: ["CKernels", "COpenBLAS", "COneDNN"], swiftSettings: settings),
    .target(
      name: "DiffusionLayers", dependencies: ["TensorCore", "CBuiltinModels"], swiftSettings: settings),
    .target(
      name: "DiffusionModels", dependencies: ["TensorCore", "DiffusionLayers", "CSentencePiece"],
      swiftSettings: settings),
    .target(
      name: "DiffusionPipelines", dependencies: ["TensorCore", "DiffusionLayers", "DiffusionModels"],
      swiftSettings: settings),
    .target(
      name: "DiffusionTraining",
      dependencies: ["TensorCore", "DiffusionLayers", "DiffusionModels", "DiffusionPipelines"],
      swiftSettings: settings),

    // The edges.
    .executableTarget(
      name: "videolora",
      dependencies: [
        "TensorCore", "DiffusionLayers", "DiffusionModels", "DiffusionPipelines", "DiffusionTraining",
        "GStreamerKit", .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ], swiftSettings: settings),
    .target(
      name: "GStreamerKit", dependencies: ["CGStreamer"], path: "plugin/GStreamerKit",
      swiftSettings: settings + pluginSwiftSettings),
    .target(
      name: "GstVideoLoRA",
      dependencies: ["CGStreamer", "GStreamerKit", "TensorCore", "DiffusionLayers", "DiffusionPipelines"],
      path: "plugin/GstVideoLoRA", swiftSettings: settings + pluginSwiftSettings,
      linkerSettings: pluginLinkerSettings),

    // Tests.
    .target(
      name: "TestSupport", dependencies: ["TensorCore", "DiffusionLayers"], swiftSettings: settings),
    .testTarget(
      name: "TensorCoreTests", dependencies: ["TensorCore", "DiffusionLayers", "TestSupport"],
      swiftSettings: settings),
    .testTarget(
      name: "DiffusionLayersTests", dependencies: ["TensorCore", "DiffusionLayers", "TestSupport"],
      swiftSettings: settings),
    .testTarget(
      name: "DiffusionModelsTests",
      dependencies: ["TensorCore", "DiffusionLayers", "DiffusionModels", "TestSupport"],
      swiftSettings: settings),
    .testTarget(
      name: "DiffusionPipelinesTests",
      dependencies: [
        "TensorCore", "DiffusionLayers", "DiffusionModels", "DiffusionPipelines", "TestSupport",
      ],
      swiftSettings: settings),
    .testTarget(
      name: "DiffusionTrainingTests",
      dependencies: [
        "TensorCore", "DiffusionLayers", "DiffusionModels", "DiffusionPipelines", "DiffusionTraining",
        "TestSupport",
      ],
      swiftSettings: settings),
    .target(
      name: "FuzzTargets",
      dependencies: ["TensorCore", "DiffusionLayers", "DiffusionModels", "DiffusionPipelines"],
      path: "Tests/Fuzz/Targets", swiftSettings: settings),
    .testTarget(name: "FuzzTests", dependencies: ["FuzzTargets"], swiftSettings: settings),
    .testTarget(
      name: "CLITests",
      dependencies: ["TensorCore", "DiffusionLayers", "TestSupport", "videolora"],
      swiftSettings: settings),
    .testTarget(
      name: "GstVideoLoRATests",
      dependencies: ["CGStreamer", "CGStreamerCheck", "GStreamerKit", "GstVideoLoRA", "TestSupport"],
      path: "plugin/Tests", swiftSettings: settings),
  ] + fuzzTargets,
  swiftLanguageModes: [.v6],
  cLanguageStandard: .gnu17,
  cxxLanguageStandard: .cxx17
)
