import DiffusionLayers
import Foundation
import TensorCore
import TestSupport
import Testing

/// `videolora train` as users call it.
@Suite struct TrainCommandTests {
  private static let binary = [
    URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent().path,
    Fixture.root + "/.build/release", Fixture.root + "/.build/debug",
  ].map { $0 + "/videolora" }.first { FileManager.default.isExecutableFile(atPath: $0) }

  private func start(_ arguments: [String]) throws -> (process: Process, output: Pipe, errors: Pipe) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: try #require(Self.binary))
    process.arguments = arguments
    let (output, errors) = (Pipe(), Pipe())
    process.standardOutput = output
    process.standardError = errors
    try process.run()
    return (process, output, errors)
  }

  private func run(_ arguments: [String]) throws -> (status: Int32, output: String, errors: String) {
    let (process, output, errors) = try start(arguments)
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    let complaints = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return (process.terminationStatus, text, complaints)
  }

  /// A folder with four clips of two frames 16x8 in one file.
  private func inFolder(_ body: (_ folder: String, _ arguments: [String]) throws -> Void) throws {
    let folder = NSTemporaryDirectory() + "videolora-train-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: folder + "/clips", withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let label = #"{"caption": ["disc", "pan_left"], "camera": "pan_left"}"#
    var writer = SafetensorsWriter(metadata: [("labels", "[\(label),\(label),\(label),\(label)]")])
    let count = 4 * 2 * 8 * 16 * 3
    writer.add(
      "frames", bytes: (0..<count).map { UInt8(truncatingIfNeeded: $0 * 7) }, dtype: .uint8,
      shape: [4, 2, 8, 16, 3])
    try writer.write(to: folder + "/clips/a.safetensors")
    try body(
      folder,
      [
        "train", "lora", "--model", Fixture.path("tag_model"), "--data", folder + "/clips", "--rank", "2",
        "--batch", "2", "--lr", "0.01",
      ])
  }

  @Test func trainsAndPlots() throws {
    try inFolder { folder, arguments in
      let output = folder + "/a.safetensors"
      let result = try run(
        arguments + [
          "--steps", "5", "--output", output, "--log", folder + "/log.jsonl", "--plot", folder + "/loss.png",
          "--sample-every", "5", "--sample-prompt", "disc", "--set", "hold_out=0.25", "--json",
        ])
      #expect(result.status == 0, "\(result.errors)")
      let summary = try JSONValue.parse(result.output).object
      #expect(summary?["steps"]?.int == 5 && summary?["layers"]?.int == 16)
      #expect(summary?["held_out_loss"]?.double?.isFinite == true)
      #expect(try SafetensorsFile(path: output).metadata("method") == "lora")
      #expect(
        try String(contentsOfFile: folder + "/log.jsonl", encoding: .utf8).split(separator: "\n").count == 6)
      #expect(try Data(contentsOf: URL(fileURLWithPath: folder + "/loss.png")).starts(with: [0x89, 0x50]))
      #expect(FileManager.default.fileExists(atPath: folder + "/a-step5"))
      let inspected = try run(["inspect", output, "--model", Fixture.path("tag_model")])
      #expect(inspected.status == 0, "\(inspected.errors)")
    }
  }

  @Test func interruptedAndResumedIsTheSame() throws {
    try inFolder { folder, arguments in
      let arguments = arguments + ["--steps", "2500"]
      let (whole, cut) = (folder + "/whole.safetensors", folder + "/cut.safetensors")
      #expect(try run(arguments + ["--output", whole]).status == 0)
      let log = folder + "/log.jsonl"
      let (process, _, errors) = try start(arguments + ["--output", cut, "--log", log])
      // A few steps in.
      let limit = Date().addingTimeInterval(60)
      while ((try? String(contentsOfFile: log, encoding: .utf8))?.split(separator: "\n").count ?? 0) < 3 {
        try #require(Date() < limit && process.isRunning)
        usleep(500)
      }
      process.interrupt()
      process.waitUntilExit()
      let complaints = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      #expect(process.terminationStatus == 1 && complaints.contains("--resume"), "\(complaints)")
      #expect(!FileManager.default.fileExists(atPath: cut))
      let resumed = try run(arguments + ["--output", cut, "--log", log, "--resume", "--threads", "1"])
      #expect(resumed.status == 0, "\(resumed.errors)")
      #expect(FileManager.default.contentsEqual(atPath: whole, andPath: cut))
    }
  }

  @Test func pairsOfTwoFolders() throws {
    try inFolder { folder, arguments in
      let output = folder + "/a.safetensors"
      let rest = Array(arguments.dropFirst(2)) + ["--steps", "3", "--output", output]
      let restyle = ["train", "restyle"] + rest + ["--set", "targets=[\"to_q\"]", "--dtype", "bf16"]
      let alone = try run(restyle)
      #expect(alone.status == 1 && alone.errors.contains("has no source"))
      try FileManager.default.copyItem(atPath: folder + "/clips", toPath: folder + "/before")
      let pairs = try run(restyle + ["--source", folder + "/before"])
      #expect(pairs.status == 0, "\(pairs.errors)")
      #expect(try SafetensorsFile(path: output).entries.values.allSatisfy { $0.dtype == .bfloat16 })
      let unused = try run(["train", "lora"] + rest + ["--source", folder + "/before"])
      #expect(unused.status == 1 && unused.errors.contains("source.share is 0"))
      #expect(try run(restyle + ["--dtype", "int8"]).errors.contains("--dtype must be"))
    }
  }

  @Test func recipesArePrinted() throws {
    let result = try run(["train", "lora", "--show-recipe", "--rank", "3", "--set", "decay=tail"])
    #expect(result.status == 0, "\(result.errors)")
    let recipe = try #require(try JSONValue.parse(result.output).object)
    #expect(recipe["rank"]?.int == 3 && recipe["decay"]?.string == "tail" && recipe.keys.count <= 25)
    try inFolder { folder, arguments in
      try result.output.write(toFile: folder + "/own.json", atomically: true, encoding: .utf8)
      #expect(try run(["train", folder + "/own.json", "--show-recipe"]).output == result.output)
    }
  }

  @Test func failuresAreOneLine() throws {
    try inFolder { folder, arguments in
      let output = ["--output", folder + "/x.safetensors", "--steps", "2"]
      try FileManager.default.createDirectory(atPath: folder + "/empty", withIntermediateDirectories: true)
      for (extra, word) in [
        (["--data", folder + "/empty"], "holds no clip"), (["--set", "targets=[\"to_z\"]"], "to_z"),
        (["--set", "nonsense=1"], "nonsense"), (["--rank", "0"], "'rank'"), (["--frames", "9"], "9"),
        (["--resume"], "resume"),
      ] {
        let result = try run(arguments + output + extra)
        #expect(result.status == 1, "\(extra)")
        #expect(
          result.errors.split(separator: "\n").count == 1 && result.errors.contains(word), "\(result.errors)")
      }
      #expect(try run(["train", "lora"]).status == 2)
      let unused = try run(arguments + output + ["--width", "64"])
      #expect(unused.status == 2 && unused.errors.contains("--width"), "\(unused.errors)")
      #expect(try run(["train", "sideways", "--show-recipe"]).status == 1)
    }
  }

  @Test func videosAndPhotosAreData() throws {
    try inFolder { folder, arguments in
      try FileManager.default.removeItem(atPath: folder + "/clips/a.safetensors")
      try FileManager.default.copyItem(
        atPath: Fixture.root + "/docs/images/nano-styles.jpg", toPath: folder + "/clips/photo.jpg")
      try FileManager.default.copyItem(
        atPath: Fixture.root + "/media/big_buck_bunny_5s.mp4", toPath: folder + "/clips/video.mp4")
      let output = folder + "/a.safetensors"
      let made = try run(arguments + ["--steps", "1", "--output", output, "--moves", "pan_left"])
      #expect(made.status == 0 && FileManager.default.fileExists(atPath: output), "\(made.errors)")
      let alone = try run(
        arguments.map { $0 == folder + "/clips" ? $0 + "/video.mp4" : $0 } + [
          "--steps", "1", "--output", folder + "/alone.safetensors", "--moves", "pan_left",
        ])
      #expect(alone.status == 0, "\(alone.errors)")
      try Data("text".utf8).write(to: URL(fileURLWithPath: folder + "/clips/broken.jpg"))
      let refused = try run(
        arguments + ["--steps", "1", "--output", folder + "/b.safetensors", "--moves", "pan_left"])
      #expect(refused.status != 0 && refused.errors.contains("broken.jpg"), "\(refused.errors)")
    }
  }
}
