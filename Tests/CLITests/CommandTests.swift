import DiffusionLayers
import Foundation
import TensorCore
import TestSupport
import Testing

/// The command line as users and other tools call it.
@Suite struct CommandTests {
  /// Runs `videolora` and returns its exit status and what it wrote.
  private func run(
    _ arguments: [String], environment: [String: String] = [:]
  ) throws -> (status: Int32, output: String, errors: String) {
    let folders = [
      URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent().path,
      Fixture.root + "/.build/release", Fixture.root + "/.build/debug",
    ]
    let binary = try #require(
      folders.map { $0 + "/videolora" }.first { FileManager.default.isExecutableFile(atPath: $0) })
    let process = Process()
    process.executableURL = URL(fileURLWithPath: binary)
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    let (output, errors) = (Pipe(), Pipe())
    process.standardOutput = output
    process.standardError = errors
    try process.run()
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    let complaints = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return (process.terminationStatus, text, complaints)
  }

  private func inFolder(_ body: (String) throws -> Void) throws {
    let folder = NSTemporaryDirectory() + "videolora-cli-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try body(folder)
  }

  @Test func generateWritesFramesAndLabels() throws {
    try inFolder { folder in
      let file = folder + "/clips.safetensors"
      let result = try run([
        "generate", "--model", Fixture.path("tag_model"), "--prompts", Fixture.path("tag_model_prompts.json"),
        "--steps", "2", "--guidance", "3", "--frames", "4", "--width", "24", "--height", "16", "--output",
        file,
      ])
      #expect(result.status == 0, "\(result.errors)")
      let clips = try SafetensorsFile(path: file)
      #expect(clips.entries["frames"]?.shape == [2, 4, 16, 24, 3])
      #expect(clips.entries["frames"]?.dtype == .uint8)
      let labels = try JSONValue.parse(try #require(clips.metadata("labels")))
      #expect(labels.array?.count == 2)
      #expect(labels.array?.first?.object?["noise_seed"]?.int == 42)
      #expect(labels.array?.first?.object?["caption"]?.array?.first?.string == "disc")
    }
  }

  /// Settings that make the libraries and our kernels run as on older processors.
  private static let levels: [(name: String, doctor: String, environment: [String: String])] = [
    ("this processor", "kernels", [:]),
    (
      "AVX2", "kernels",
      ["VIDEOLORA_SIMD": "avx2", "OPENBLAS_CORETYPE": "Haswell", "DNNL_MAX_CPU_ISA": "AVX2"]
    ),
    (
      "no AVX", "portable kernels",
      ["VIDEOLORA_SIMD": "portable", "OPENBLAS_CORETYPE": "Prescott", "DNNL_MAX_CPU_ISA": "SSE41"]
    ),
  ]

  /// On every level the same bytes for 1 and 2 threads, and between levels no more than rounding. With the
  /// first-block cache on, whose decisions must not depend on threads either.
  @Test func sameBytesForAnyThreadCount() throws {
    try inFolder { folder in
      var first: [Int] = []
      for (name, doctor, environment) in Self.levels {
        var files: [[UInt8]] = []
        for threads in ["1", "2"] {
          let file = "\(folder)/\(threads).safetensors"
          let result = try run(
            [
              "generate", "--model", "builtin:nano", "--prompt", "", "--steps", "4", "--frames", "8",
              "--width", "64", "--height", "48", "--seed", "3", "--lora", "builtin:poster=0.7", "--threads",
              threads, "--cache-threshold", "0.3", "--output", file,
            ], environment: environment)
          #expect(result.status == 0, "\(name): \(result.errors)")
          files.append(Array(try Data(contentsOf: URL(fileURLWithPath: file))))
        }
        #expect(files[0] == files[1], "\(name): 1 and 2 threads differ")
        let frames = try SafetensorsFile(path: folder + "/1.safetensors").integers("frames")
        if first.isEmpty { first = frames }
        let worst = zip(frames, first).map { abs($0 - $1) }.max() ?? 255
        #expect(frames.count == first.count && worst <= 2, "\(name): \(worst) levels off")
        #expect(try run(["doctor"], environment: environment).output.contains(doctor), "\(name)")
      }
    }
  }

  @Test func transformKeepsEveryFrame() throws {
    try inFolder { folder in
      let (source, result) = (folder + "/in.y4m", folder + "/out.y4m")
      var y4m = Array("YUV4MPEG2 W50 H34 F24000:1001 Ip A1:1 C420jpeg\n".utf8)
      for frame in 0..<11 {
        y4m += Array("FRAME\n".utf8)
        y4m += (0..<50 * 34 + 2 * 25 * 17).map { UInt8(($0 * 7 + frame * 13) % 256) }
      }
      try Data(y4m).write(to: URL(fileURLWithPath: source))
      let outcome = try run([
        "transform", "--input", source, "--output", result, "--strength", "0.4", "--steps", "2", "--guidance",
        "1", "--lora-curve", "builtin:poster=0:0,10:1",
      ])
      #expect(outcome.status == 0, "\(outcome.errors)")
      let written = try Data(contentsOf: URL(fileURLWithPath: result))
      let header = String(decoding: written.prefix { $0 != 10 }, as: UTF8.self)
      #expect(header.contains("W50 H34") && header.contains("F24000:1001"), "\(header)")
      var frames = 0
      var at = written.startIndex
      while let found = written.range(of: Data("FRAME".utf8), in: at..<written.endIndex) {
        frames += 1
        at = found.upperBound
      }
      #expect(frames >= 11)
    }
  }

  @Test func inspectAndReplay() throws {
    let model = try run(["inspect", "builtin:nano", "--json"])
    let summary = try JSONValue.parse(model.output)
    #expect(model.status == 0 && summary.object != nil, "\(model.errors)")
    let adapter = try run(["inspect", "builtin:poster", "--model", "builtin:nano"])
    #expect(adapter.status == 0 && adapter.output.contains("matched"), "\(adapter.errors)")
    try inFolder { folder in
      let replay = try run([
        "replay", "--model", Fixture.path("wan_tiny"), "--golden",
        Fixture.path("wan_tiny_golden.safetensors"),
        "--loras", Fixture.path("wan_tiny_loras"), "--output", folder + "/r.safetensors",
      ])
      #expect(replay.status == 0, "\(replay.errors)")
    }
  }

  @Test func loraInspectConvertMerge() throws {
    try inFolder { folder in
      let (renamed, sum) = (folder + "/kohya.safetensors", folder + "/sum.safetensors")
      let convert = try run(["lora", "convert", "builtin:poster", "--to", "kohya", "--output", renamed])
      #expect(convert.status == 0 && convert.errors.isEmpty, "\(convert.errors)")
      let inspect = try run(["lora", "inspect", renamed, "--model", "builtin:nano", "--json"])
      let summary = try JSONValue.parse(inspect.output).object
      #expect(inspect.status == 0 && summary?["dialect"]?.string == "kohya", "\(inspect.errors)")
      #expect(summary?["family"]?.string == "wan")
      #expect(
        summary?["matched_keys"]?.int == summary?["total_keys"]?.int && summary?["unmatched"]?.array == [])
      #expect(summary?["layers"]?.array?.first?.object?["norm"]?.double ?? 0 > 0)

      let merge = try run(["lora", "merge", renamed + "=0.5", "builtin:poster=-0.5", "--output", sum])
      #expect(merge.status == 0, "\(merge.errors)")
      let norms = try JSONValue.parse(try run(["lora", "inspect", sum, "--json"]).output).object?["layers"]?
        .array
      #expect(norms?.isEmpty == false)
      // An adapter minus itself is nothing.
      for layer in norms ?? [] { #expect(layer.object?["norm"]?.double ?? 1 < 1e-3) }

      // Two adapters of one norm are the same under `norm`.
      let plain = folder + "/plain.safetensors"
      let half = folder + "/half.safetensors"
      for (mode, file) in [("sum", plain), ("norm", half)] {
        let result = try run([
          "lora", "merge", renamed, "builtin:poster", "--compose", mode, "--output", file,
        ])
        #expect(result.status == 0, "\(result.errors)")
      }
      let report = try run(["lora", "report", plain, half, "--json"])
      let blocks = try JSONValue.parse(report.output).object?["blocks"]?.array
      #expect(report.status == 0 && blocks?.isEmpty == false, "\(report.errors)")
      for block in blocks ?? [] {
        #expect(abs((block.object?["cosine"]?.double ?? 0) - 1) < 1e-4)
        #expect(abs((block.object?["norm_ratio"]?.double ?? 0) - 1) < 1e-3)
      }
      let table = try run(["lora", "report", plain, half])
      #expect(table.status == 0 && table.output.contains("orthogonal"), "\(table.errors)")
      #expect(try run(["lora", "report", plain]).status == 2)
      #expect(try run(["lora", "merge", renamed, "--compose", "zebra", "--output", sum]).status == 2)
      let unnamed = folder + "/no.safetensors"
      let motion = try run(["lora", "convert", renamed, "--to", "motion-lora", "--output", unnamed])
      #expect(motion.status == 1 && motion.errors.contains("has no name for the layer"), "\(motion.errors)")
      #expect(!FileManager.default.fileExists(atPath: unnamed))
      let wrong = try run([
        "lora", "inspect", Fixture.path("sd15_loras/weapons.kohya.safetensors"), "--model", "builtin:nano",
      ])
      #expect(wrong.status == 1 && wrong.errors.contains("made for Stable Diffusion 1.5"), "\(wrong.errors)")
    }
  }

  @Test func quantizeInspectBenchAndReplay() throws {
    try inFolder { folder in
      let output = folder + "/int8"
      let made = try run(["quantize", "--model", "builtin:nano", "--output", output, "--json"])
      #expect(made.status == 0, "\(made.errors)")
      let summary = try JSONValue.parse(made.output).object
      #expect(summary?["bytes_after"]?.int ?? .max < (summary?["bytes_before"]?.int ?? 0) * 2 / 3)
      let inspect = try run(["inspect", output, "--json"])
      let components = try JSONValue.parse(inspect.output).object?["components"]?.array ?? []
      let transformer = components.first { $0.object?["name"]?.string == "transformer" }?.object
      #expect(transformer?["quantization"]?.string == "int8", "\(inspect.output) \(inspect.errors)")
      #expect(try run(["inspect", output]).output.contains("int8"))
      for (arguments, precision) in [
        (["--model", output], "int8"), (["--model", "builtin:nano", "--precision", "bf16"], "bf16"),
        (["--model", output, "--precision", "f32"], "f32"),
      ] {
        let bench = try run(
          [
            "bench", "--workload", "step", "--frames", "2", "--width", "32", "--height", "32", "--repeat",
            "1", "--json",
          ]
            + arguments)
        #expect(
          try JSONValue.parse(bench.output).object?["precision"]?.string == precision, "\(bench.errors)")
      }
      for again in [output, folder + "/other"] {
        let refused = try run(["quantize", "--model", output, "--output", again])
        #expect(refused.status == 1 && refused.errors.contains("already"), "\(refused.errors)")
      }
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["int8"])
      let replay = try run([
        "replay", "--model", Fixture.path("wan_tiny"), "--golden",
        Fixture.path("wan_tiny_golden.safetensors"), "--precision", "int8",
        "--loras", Fixture.path("wan_tiny_loras"), "--output", folder + "/r.safetensors",
      ])
      #expect(replay.status == 0, "\(replay.errors)")
    }
  }

  @Test func benchPrintsItsKeys() throws {
    let bench = try run([
      "bench", "--model", "builtin:nano", "--workload", "step", "--frames", "2", "--width", "32", "--height",
      "32",
      "--repeat", "1", "--json",
    ])
    #expect(bench.status == 0, "\(bench.errors)")
    let json = try JSONValue.parse(bench.output)
    let object = try #require(json.object ?? json.array?.first?.object)
    for key in [
      "workload", "precision", "threads", "best_s", "median_s", "gflop", "gflops", "ceiling_gflops",
      "peak_rss_bytes", "load_s",
    ] {
      #expect(object[key] != nil, "\(key)")
    }
  }

  @Test(arguments: [
    ["generate", "--model", "/nonexistent", "--prompt", "", "--output", "/tmp/x.safetensors"],
    ["generate", "--prompt", "zebra", "--output", "/tmp/x.safetensors"],
    ["generate", "--prompt", "", "--lora", "/nonexistent.safetensors=1", "--output", "/tmp/x.safetensors"],
    ["transform", "--input", "/nonexistent.y4m", "--output", "/tmp/x.y4m"],
    ["inspect", "/nonexistent"], ["inspect", Fixture.path("pickles/zip.pt")],
    ["import", Fixture.path("pickles/code.pt"), "--output", "/tmp/x.safetensors"],
    ["generate", "--prompt", "", "--memory-budget", "1000", "--output", "/tmp/x.safetensors"],
  ])
  func failuresAreOneLine(_ arguments: [String]) throws {
    let result = try run(arguments)
    #expect(result.status == 1, "\(arguments): \(result.status)")
    let lines = result.errors.split(separator: "\n")
    #expect(lines.count == 1 && (lines.first?.hasPrefix("videolora: ") ?? false), "\(result.errors)")
    #expect(!FileManager.default.fileExists(atPath: "/tmp/x.safetensors"))
  }

  @Test func importsCheckpoints() throws {
    try inFolder { folder in
      let path = folder + "/out.safetensors"
      let result = try run(["import", Fixture.path("pickles/wrapped.ckpt"), "--output", path])
      #expect(result.status == 0, "\(result.errors)")
      #expect(result.output.contains("7 tensors") && result.output.contains("left out: optimizer"))
      #expect(try SafetensorsFile(path: path).metadata("epoch") == "7")
    }
  }

  @Test func wrongUsageIsTwo() throws {
    #expect(try run(["import", Fixture.path("pickles/zip.pt"), "--output", "/tmp/x.ckpt"]).status == 2)
    #expect(try run(["generate"]).status == 2)
    #expect(try run(["nonsense"]).status == 2)
    #expect(
      try run(["generate", "--prompt", "", "--steps", "many", "--output", "/tmp/x.safetensors"]).status == 2)
  }
}
