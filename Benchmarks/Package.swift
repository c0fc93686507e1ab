// swift-tools-version: 6.2
// Timings of the engine's kernels, blocks and whole workloads: a package of its own, so that building and testing the
// engine does not build it. It uses the engine's public interface only.

import PackageDescription

let package = Package(
  name: "Benchmarks",
  dependencies: [.package(name: "VideoLoRA", path: "..")],
  targets: [
    .executableTarget(
      name: "benchmarks", dependencies: [.product(name: "VideoLoRA", package: "VideoLoRA")],
      path: "Sources/Benchmarks",
      swiftSettings: [
        .enableUpcomingFeature("ExistentialAny"), .enableUpcomingFeature("InternalImportsByDefault"),
        .enableUpcomingFeature("MemberImportVisibility"),
      ])
  ],
  swiftLanguageModes: [.v6]
)
