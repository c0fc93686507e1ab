import DiffusionLayers
import Testing

@Suite struct BuiltinFilesTests {
  /// The embedded files are those of the models folder; generate.sh brings them up to date.
  @Test func embedsTheModelsFolder() throws {
    let root = #filePath.split(separator: "/").dropLast(3).map { "/" + $0 }.joined() + "/models"
    #expect(!BuiltinFiles.paths.isEmpty)
    #expect(
      BuiltinFiles.paths == BuiltinFiles.paths.sorted { Array($0.utf8).lexicographicallyPrecedes($1.utf8) })
    for path in BuiltinFiles.paths {
      let disk = try ByteSource.open("\(root)/\(path)")
      let embedded = try #require(BuiltinFiles.find(path))
      let built = ByteSource.embedded(embedded)
      #expect(built.count == disk.count, "\(path): run Sources/CBuiltinModels/generate.sh and build again")
      let range = 0..<min(built.count, disk.count)
      #expect(try built.bytes(range) == disk.bytes(range), "\(path) differs: build again")
    }
    for index in ["nano/model_index.json", "nano/transformer/config.json"] {
      #expect(BuiltinFiles.paths.contains(index))
    }
    let adapters = TemporaryFolder.list(root + "/adapters").filter { $0.hasSuffix(".safetensors") }
    #expect(
      BuiltinFiles.adapters.map { $0 + ".safetensors" } == adapters, "run Sources/CBuiltinModels/generate.sh")
  }

  @Test func builtinModelsOpenLikeFolders() throws {
    #expect(BuiltinFiles.models == ["nano"])
    let nano = try ModelDirectory("builtin:nano")
    #expect(nano.exists("model_index.json"))
    #expect(!nano.exists("no.json"))
    #expect(throws: WeightsError.unsafeName(file: "builtin:nano", name: "../nano/model_index.json")) {
      try nano.source("../nano/model_index.json")
    }
    #expect(throws: WeightsError.notFound(file: "builtin:nano/no.json")) { try nano.source("no.json") }
    #expect(try nano.json("transformer/config.json").int("num_layers") > 0)
    let transformer = try SafetensorsSource(nano, component: "transformer")
    #expect(transformer.parameters > 1_000_000)
    let resident = try ResidentSource(loading: transformer)
    #expect(resident.parameters == transformer.parameters)
  }

  @Test func unknownBuiltinsAreNamed() {
    #expect(throws: WeightsError.unknownBuiltin(name: "macro", known: ["nano"])) {
      try ModelDirectory("builtin:macro")
    }
    #expect(throws: WeightsError.unknownBuiltin(name: "none", known: BuiltinFiles.adapters)) {
      try ByteSource.open("builtin:none")
    }
  }
}
