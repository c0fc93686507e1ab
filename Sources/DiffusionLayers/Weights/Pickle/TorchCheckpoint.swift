public import TensorCore

/// The tensors of a file that torch.save wrote, in its zip form or the one before PyTorch 1.6.
///
/// Pickle is a program; this reader runs the part of it that builds containers, numbers, strings and tensors,
/// and refuses everything else. No code of the file is ever run (torch/serialization.py with `weights_only`).
public struct TorchCheckpoint {
  /// A tensor of the state dict.
  public struct Entry {
    public let name: String
    public let dtype: DType
    public let shape: [Int]
    let tensor: TorchTensor
  }

  /// The file's name, for messages.
  public let name: String
  /// The tensors, in the order of the state dict.
  public let entries: [Entry]
  /// Numbers and short strings beside the tensors.
  public let metadata: [(String, String)]
  /// What a safetensors file cannot hold: the path of each value left out, and what it is.
  public let leftOut: [String]
  /// Bytes of the tensors, written out.
  public let byteCount: Int
  private let source: ByteSource
  private let storages: [Range<Int>?]

  /// Reads the pickles of a file and checks every tensor against its storage; no tensor's data is read.
  public init(source: ByteSource) throws(PickleError) {
    let parts = try TorchFile(source)
    var state = StateDict(file: source.name, heap: parts.heap)
    try state.collect(parts.root)
    guard !state.tensors.isEmpty else { throw .noTensors(file: source.name) }
    name = source.name
    self.source = source
    storages = parts.storages
    metadata = state.metadata
    leftOut = state.leftOut
    var entries: [Entry] = []
    var total = 0
    for (name, index) in state.tensors {
      let tensor = parts.heap.tensors[Int(index)]
      let storage = parts.heap.storages[tensor.storage]
      guard parts.storages[tensor.storage] != nil || tensor.byteCount == 0 else {
        throw .storage(file: source.name, key: storage.key, reason: "is missing")
      }
      let (sum, overflow) = total.addingReportingOverflow(tensor.byteCount)
      let limit = PickleLimits.output(source.count)
      guard !overflow, sum <= limit else {
        throw .expansion(file: source.name, bytes: overflow ? .max : sum, limit: limit)
      }
      total = sum
      entries.append(Entry(name: name, dtype: tensor.dtype, shape: tensor.shape, tensor: tensor))
    }
    self.entries = entries
    byteCount = total
  }

  /// Opens a file.
  public init(path: String) throws(PickleError) {
    let file: WeightFile
    do { file = try WeightFile(path) } catch { throw .file(error) }
    try self.init(source: .file(file))
  }

  /// Writes the tensors as a safetensors file that appears whole or not at all; data goes from file to file
  /// in pieces. `progress` is told the bytes done after each piece; what it throws ends the import.
  public func write(to path: String, progress: @escaping (Int) throws -> Void = { _ in }) throws {
    var writer = SafetensorsWriter(metadata: [("format", "pt")] + metadata.filter { $0.0 != "format" })
    var done = 0
    var interruption: (any Error)?
    for entry in entries {
      let copy = StridedCopy(
        source: source, tensor: entry.tensor, storage: storages[entry.tensor.storage] ?? 0..<0)
      writer.add(entry.name, dtype: entry.dtype, shape: entry.shape) { file throws(WeightsError) in
        try copy.write(to: &file) { bytes throws(WeightsError) in
          done += bytes
          do {
            try progress(done)
          } catch {
            interruption = error
            throw .unwritable(file: path, reason: "it was interrupted")
          }
        }
      }
    }
    do {
      try writer.write(to: path)
    } catch {
      throw interruption ?? error
    }
  }
}
