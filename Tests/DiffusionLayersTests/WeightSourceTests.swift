import DiffusionLayers
import TensorCore
import Testing

@Suite struct WeightSourceTests {
  private func file(_ tensors: [(String, Tensor)]) throws -> [UInt8] {
    var writer = SafetensorsWriter()
    for (name, tensor) in tensors { writer.add(name, tensor) }
    return try serialized(writer)
  }

  /// Rows come alike from a file, from memory and under another name, in full and half width.
  @Test(arguments: [DType.float32, .bfloat16, .float16]) func rowsOfAMatrix(_ dtype: DType) throws {
    // Exponents stay small: every pattern of these bytes is a finite number.
    let bytes = (0..<6 * 4 * dtype.byteSize).map { UInt8($0 * 7 % 60) }
    var writer = SafetensorsWriter()
    writer.add("table", bytes: bytes, dtype: dtype, shape: [6, 4])
    let file = try SafetensorsSource(SafetensorsFile(source: memory(try serialized(writer))))
    let whole = try file.load("table", shape: [6, 4]).array()
    let renamed = RenamedSource(file, stored: ["other": "table"])
    let sources: [(any WeightSource, String)] = [
      (file, "table"), (try ResidentSource(loading: file), "table"), (renamed, "other"),
      (AdaptedSource(file, adapters: []), "table"),
    ]
    for (source, name) in sources {
      #expect(try source.rows(name, shape: [6, 4], in: 2..<4).array() == Array(whole[8..<16]))
      #expect(throws: WeightsError.self) { try source.rows(name, shape: [6, 5], in: 2..<4) }
    }
    #expect(renamed.names == ["other"] && !renamed.contains("table"))
    #expect(throws: WeightsError.self) { try Embedding(Weights(renamed), 6, 4) }
    let table = try Embedding(Weights(RenamedSource(file, stored: ["weight": "table"])), 6, 4)
    #expect(try table([5, 0, 5]).array() == Array(whole[20...] + whole[..<4] + whole[20...]))
  }

  @Test func cursorNamesPathFileAndShapes() throws {
    let bytes = try file([("blocks.3.attn1.to_q.weight", Tensor([1, 2, 3, 4, 5, 6], shape: [2, 3]))])
    let source = try SafetensorsSource(try SafetensorsFile(source: memory(bytes)))
    let weights = Weights(source)["blocks"][3]["attn1"]["to_q"]
    #expect(weights.path == "blocks.3.attn1.to_q")
    #expect(weights.has("weight"))
    #expect(!weights.has("bias"))
    #expect(weights.shape(of: "weight") == [2, 3])
    #expect(try weights.tensor("weight", shape: [2, 3]).array() == [1, 2, 3, 4, 5, 6])
    #expect(weights.adapters.isEmpty)
    let wrong = #expect(throws: WeightsError.self) { try weights.tensor("weight", shape: [3, 2]) }
    #expect(
      wrong?.description == "the tensor 'blocks.3.attn1.to_q.weight' in 'f' has shape [2, 3], "
        + "the model's configuration asks for [3, 2]")
    #expect(throws: WeightsError.missing(file: "f", tensor: "blocks.3.attn1.to_q.bias", expected: [2])) {
      try weights.tensor("bias", shape: [2])
    }
  }

  @Test func residentSourceLoadsOnceAndShares() throws {
    let bytes = try file([("a", Tensor([1, 2], shape: [2])), ("b", Tensor([3], shape: [1]))])
    let source = try SafetensorsSource(try SafetensorsFile(source: memory(bytes)))
    var seen: [Int] = []
    let resident = try ResidentSource(loading: source) { done, total in
      #expect(total == 2)
      seen.append(done)
    }
    #expect(seen == [0, 1, 2])
    #expect(resident.names == ["a", "b"])
    #expect(resident.parameters == 3)
    let first = try resident.load("a", shape: [2]).withFloats { $0.baseAddress }
    let second = try resident.load("a", shape: [2]).withFloats { $0.baseAddress }
    #expect(first == second)
    #expect(throws: WeightsError.shape(file: "f", tensor: "a", expected: [1], found: [2])) {
      try resident.load("a", shape: [1])
    }
    struct Stop: Error {}
    #expect(throws: Stop.self) {
      try ResidentSource(loading: source) { done, _ in if done == 1 { throw Stop() } }
    }
    let some = try ResidentSource(loading: source, names: ["b"])
    #expect(some.names == ["b"])
  }

  @Test func adaptedSourceNumbersTheAdapters() throws {
    let base = ResidentSource(name: "m", tensors: ["x.weight": Tensor.zeros([2, 3])])
    func adapter(_ value: Float) throws -> LoRAMatch {
      let bytes = try file([
        ("x.lora_A.weight", Tensor([value, 0, 0], shape: [1, 3])),
        ("x.lora_B.weight", Tensor([1, 1], shape: [2, 1])),
      ])
      return try LoRAFile(source: memory(bytes)).match(against: base, strict: true)
    }
    let adapted = AdaptedSource(base, adapters: [try adapter(1), try adapter(2)])
    let pairs = Weights(adapted)["x"].adapters
    #expect(pairs.map(\.adapterIndex) == [0, 1])
    #expect(pairs.map { $0.pair?.down.array()[0] } == [1, 2])
    #expect(Weights(adapted)["y"].adapters.isEmpty)
    #expect(adapted.shape(of: "x.weight") == [2, 3])
    let direct = try base.load("x.weight", shape: [2, 3]).withFloats { $0.baseAddress }
    let through = try adapted.load("x.weight", shape: [2, 3]).withFloats { $0.baseAddress }
    #expect(direct == through)
  }

  @Test(arguments: ["", ".fp16", ".bf16"]) func readsShardsThroughTheIndex(_ variant: String) throws {
    let folder = TemporaryFolder()
    try folder.write(try file([("a", Tensor([1], shape: [1]))]), to: "transformer/s-1.safetensors")
    try folder.write(try file([("b", Tensor([2, 3], shape: [2]))]), to: "transformer/s-2.safetensors")
    let index = "transformer/diffusion_pytorch_model.safetensors.index\(variant).json"
    try folder.write(#"{"weight_map": {"a": "s-1.safetensors", "b": "s-2.safetensors"}}"#, to: index)
    let source = try SafetensorsSource(try ModelDirectory(folder.path), component: "transformer")
    #expect(source.names == ["a", "b"])
    #expect(source.parameters == 3)
    #expect(source.file(of: "b") == folder.path + "/transformer/s-2.safetensors")
    #expect(try source.load("b", shape: [2]).array() == [2, 3])
    #expect(throws: WeightsError.overBudget(file: "\(folder.path)/\(index)", needed: 12, budget: 11)) {
      try SafetensorsSource(try ModelDirectory(folder.path), component: "transformer", memoryBudget: 11)
    }
  }

  @Test(arguments: [
    (#"{"weight_map": {"a": "../s.safetensors"}}"#, "only names inside the same folder"),
    (#"{"weight_map": {"a": "/etc/passwd"}}"#, "only names inside the same folder"),
    (#"{"weight_map": {"a": "x/../../s"}}"#, "only names inside the same folder"),
    (#"{"weight_map": {"a": ""}}"#, "only names inside the same folder"),
    (#"{"weight_map": {"a": "gone.safetensors"}}"#, "the shard 'gone.safetensors'"),
    (#"{"weight_map": {"b": "s.safetensors"}}"#, "places the tensor 'b' in 's.safetensors', which lacks it"),
    (#"{"weight_map": {"a": 3}}"#, "is not a file name"), (#"{"weight_map": []}"#, "must be an object"),
    (#"{}"#, "the key 'weight_map' is missing"), (#"[]"#, "top level must be a JSON object"),
    (#"{"weight_map": {"a": "s.safetensors", "a": "s.safetensors"}}"#, "'a' stands twice"),
  ])
  func refusesBadIndexes(text: String, message: String) throws {
    let folder = TemporaryFolder()
    try folder.write(try file([("a", Tensor([1], shape: [1]))]), to: "s.safetensors")
    try folder.write(text, to: "model.safetensors.index.json")
    let error = #expect(throws: WeightsError.self) {
      try SafetensorsSource(try ModelDirectory(folder.path), component: "")
    }
    #expect(error?.description.contains(message) == true, "\(String(describing: error))")
    #expect(error?.description.contains(folder.path) == true)
  }

  @Test func findsTheSingleFileAndExplainsPickle() throws {
    let folder = TemporaryFolder()
    let directory = try ModelDirectory(folder.path)
    let missing = #expect(throws: WeightsError.self) { try SafetensorsSource(directory, component: "vae") }
    #expect(missing == .notFound(file: "\(folder.path)/vae/diffusion_pytorch_model.safetensors"))
    let text = #expect(throws: WeightsError.self) {
      try SafetensorsSource(directory, component: "text_encoder")
    }
    #expect(text == .notFound(file: "\(folder.path)/text_encoder/model.safetensors"))
    let pickle = try folder.write("PK", to: "vae/diffusion_pytorch_model.bin")
    #expect(throws: WeightsError.foreign(file: pickle, format: .torchPickle)) {
      try SafetensorsSource(directory, component: "vae")
    }
    let path = try folder.write(try file([("a", Tensor([1], shape: [1]))]), to: "vae/model.safetensors")
    #expect(try SafetensorsSource(directory, component: "vae").name == path)
  }

  @Test func modelDirectoryStaysInside() throws {
    let folder = TemporaryFolder()
    try folder.write("{\"a\": 1}", to: "sub/config.json")
    let directory = try ModelDirectory(folder.path)
    #expect(directory.exists("sub/config.json"))
    #expect(try directory.json("sub/config.json").int("a") == 1)
    for name in ["../x", "/etc/passwd", "sub/../../x", "", ".", "a//b", "a\0"] {
      #expect(!directory.exists(name))
      #expect(throws: WeightsError.unsafeName(file: folder.path, name: name)) { try directory.source(name) }
    }
    let config = folder.path + "/sub/config.json"
    #expect(throws: WeightsError.fileTooLarge(file: config, bytes: 8, limit: 7)) {
      try directory.read("sub/config.json", limit: 7)
    }
    #expect(throws: WeightsError.foreign(file: config, format: .json)) { try ModelDirectory(config) }
    let plain = try folder.write("plain", to: "plain.txt")
    let error = #expect(throws: WeightsError.self) { try ModelDirectory(plain) }
    #expect(error?.description.contains("a model is a folder with a model_index.json") == true)
    #expect(throws: WeightsError.notARegularFile(file: "/dev/null", kind: "a device")) {
      try ModelDirectory("/dev/null")
    }
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    let model = try folder.write(pointer, to: "model_index.json")
    #expect(throws: WeightsError.foreign(file: model, format: .gitLFSPointer)) {
      try directory.json("model_index.json")
    }
    #expect(throws: WeightsError.foreign(file: model, format: .gitLFSPointer)) { try ModelDirectory(model) }
    #expect(throws: WeightsError.notFound(file: "/no/such")) { try ModelDirectory("/no/such") }
    #expect(throws: WeightsError.notFound(file: "")) { try ModelDirectory("") }
  }
}
