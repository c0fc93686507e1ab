import Glibc
public import TensorCore

/// The floating-point tensors of one safetensors file, or of several that an index ties together.
///
/// Tensors of integers are not weights and stay invisible here, unless they are the 8-bit integers of a quantised
/// matrix (see QuantizedMatrices.swift); their scales are invisible then. Opening reads headers only and compares the
/// need with the memory budget before any data is read.
public struct SafetensorsSource: WeightSource {
  public let name: String
  public let names: [String]
  private let files: [SafetensorsFile]
  private let fileOfTensor: [String: Int]
  /// For every quantised matrix the name of its scales and the file that holds them.
  private let quantized: [String: (scales: String, file: Int)]
  private let checkFinite: Bool

  /// One file.
  public init(_ file: SafetensorsFile, checkFinite: Bool = true, memoryBudget: UInt64 = 0)
    throws(WeightsError)
  {
    try self.init(
      name: file.name, files: [file], map: file.names.map { ($0, 0) }, checkFinite: checkFinite,
      memoryBudget: memoryBudget)
  }

  /// The weights of a component, such as `transformer`: `<name>.safetensors.index.json` and its shards if
  /// there is an index, else the single file, under diffusers' or transformers' name, or else their variants for
  /// half precision.
  public init(
    _ directory: ModelDirectory, component: String, checkFinite: Bool = true, memoryBudget: UInt64 = 0
  ) throws(WeightsError) {
    let prefix = component.isEmpty ? "" : component + "/"
    for stem in ["diffusion_pytorch_model", "model"] {
      for variant in ["", ".fp16", ".bf16"] {
        let index = "\(prefix)\(stem).safetensors.index\(variant).json"
        if directory.exists(index) {
          try self.init(directory, index: index, checkFinite: checkFinite, memoryBudget: memoryBudget)
          return
        }
        let single = "\(prefix)\(stem)\(variant).safetensors"
        if directory.exists(single) {
          let file = try SafetensorsFile(source: try directory.source(single))
          try self.init(file, checkFinite: checkFinite, memoryBudget: memoryBudget)
          return
        }
      }
    }
    for pickle in ["diffusion_pytorch_model.bin", "pytorch_model.bin"] where directory.exists(prefix + pickle)
    {
      throw .foreign(file: directory.location(of: prefix + pickle), format: .torchPickle)
    }
    let stem = component == "text_encoder" ? "model" : "diffusion_pytorch_model"
    throw .notFound(file: directory.location(of: "\(prefix)\(stem).safetensors"))
  }

  /// The shards of an index file, which stand beside it.
  public init(
    _ directory: ModelDirectory, index: String, checkFinite: Bool = true, memoryBudget: UInt64 = 0
  ) throws(WeightsError) {
    let shown = directory.location(of: index)
    let json = try directory.json(index)
    let map: JSONObject
    do { map = try json.object("weight_map") } catch { throw .json(error) }
    if map.count > SafetensorsLimits.tensors {
      throw .index(file: shown, reason: "it lists more than \(SafetensorsLimits.tensors) tensors")
    }
    let folder = index.lastIndex(of: "/").map { String(index[...$0]) } ?? ""
    var shards: [String: Int] = [:]
    var files: [SafetensorsFile] = []
    var placed: [(String, Int)] = []
    for tensor in map.keys {
      guard let shard = map[tensor]?.string else {
        throw .index(file: shown, reason: "the place of the tensor '\(tensor)' is not a file name")
      }
      guard ModelDirectory.isInside(shard) else { throw .unsafeName(file: shown, name: shard) }
      if shards[shard] == nil {
        guard shards.count < Self.shardLimit else {
          throw .index(file: shown, reason: "it names more than \(Self.shardLimit) files")
        }
        guard directory.exists(folder + shard) else { throw .missingShard(index: shown, shard: shard) }
        shards[shard] = files.count
        files.append(try SafetensorsFile(source: try directory.source(folder + shard)))
      }
      guard let position = shards[shard], files[position].entries[tensor] != nil else {
        throw .shardLacksTensor(index: shown, shard: shard, tensor: tensor)
      }
      placed.append((tensor, position))
    }
    try self.init(
      name: shown, files: files, map: placed, checkFinite: checkFinite, memoryBudget: memoryBudget)
  }

  private init(
    name: String, files: [SafetensorsFile], map: [(String, Int)], checkFinite: Bool, memoryBudget: UInt64
  ) throws(WeightsError) {
    let matrices = try QuantizedMatrices(map.map { name, file in (name, files[file]) })
    quantized = matrices.scales.mapValues { scales in (scales, map.first { $0.0 == scales }?.1 ?? 0) }
    let floats = map.filter { name, file in
      if matrices.isScale(name) { return false }
      return matrices.scales[name] != nil || files[file].entries[name]?.dtype.isFloatingPoint == true
    }
    self.name = name
    self.files = files
    self.checkFinite = checkFinite
    names = floats.map(\.0)
    fileOfTensor = Dictionary(floats, uniquingKeysWith: { first, _ in first })
    // Without a budget the machine itself is the limit: a file that can never fit is refused, not tried.
    let limit = memoryBudget > 0 ? memoryBudget : Self.physicalMemory
    if residentBytes > limit { throw .overBudget(file: name, needed: residentBytes, budget: limit) }
  }

  /// Bytes that the tensors take in memory: matrices of bf16, f16 and 8-bit integers as they are, the others as f32.
  public var residentBytes: UInt64 {
    fileOfTensor.keys.reduce(0) { sum, tensor in
      sum + UInt64(Weight.bytes(shape(of: tensor) ?? [], as: format(of: tensor)))
    }
  }

  public func format(of tensor: String) -> DType {
    if quantized[tensor] != nil { return .int8 }
    guard let entry = fileOfTensor[tensor].flatMap({ files[$0].entries[tensor] }), entry.staysHalf else {
      return .float32
    }
    return entry.dtype
  }

  /// Number of floats.
  public var parameters: Int {
    fileOfTensor.reduce(0) { $0 + (files[$1.value].entries[$1.key]?.count ?? 0) }
  }

  /// The number formats of the tensors, as far as they are floats.
  public var dtypes: [DType] {
    DType.allCases.filter { dtype in
      fileOfTensor.contains { files[$0.value].entries[$0.key]?.dtype == dtype }
    }
  }

  /// Bytes of the tensors in the files.
  public var storedBytes: UInt64 {
    fileOfTensor.reduce(0) { $0 + UInt64(files[$1.value].entries[$1.key]?.range.count ?? 0) }
  }

  public func file(of tensor: String) -> String { fileOfTensor[tensor].map { files[$0].name } ?? name }

  public func shape(of tensor: String) -> [Int]? {
    fileOfTensor[tensor].flatMap { files[$0].entries[tensor]?.shape }
  }

  public func load(_ tensor: String, shape: [Int]) throws(WeightsError) -> Tensor {
    try check(tensor, shape: shape)
    guard let file = fileOfTensor[tensor] else {
      throw .missing(file: name, tensor: tensor, expected: shape)
    }
    if quantized[tensor] != nil { return try weight(tensor, shape: shape).floats() }
    return try files[file].load(tensor, checkFinite: checkFinite)
  }

  public func weight(_ tensor: String, shape: [Int]) throws(WeightsError) -> Weight {
    try check(tensor, shape: shape)
    guard let file = fileOfTensor[tensor] else {
      throw .missing(file: name, tensor: tensor, expected: shape)
    }
    if let (scales, place) = quantized[tensor] {
      return try files[file].int8Weight(tensor, scales: try files[place].load(scales, checkFinite: true))
    }
    return try files[file].weight(tensor, checkFinite: checkFinite)
  }

  public func rows(_ tensor: String, shape: [Int], in range: Range<Int>) throws(WeightsError) -> Tensor {
    try check(tensor, shape: shape)
    guard let file = fileOfTensor[tensor] else {
      throw .missing(file: name, tensor: tensor, expected: shape)
    }
    if quantized[tensor] != nil { return try weight(tensor, shape: shape).rows(Array(range)) }
    return try files[file].load(tensor, rows: range, checkFinite: checkFinite)
  }

  private static let shardLimit = 1000

  private static var physicalMemory: UInt64 {
    let pages = sysconf(Int32(_SC_PHYS_PAGES))
    let size = sysconf(Int32(_SC_PAGESIZE))
    return pages > 0 && size > 0 ? UInt64(pages) * UInt64(size) : .max
  }
}
