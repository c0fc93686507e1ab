/// Why a torch checkpoint cannot be imported: a sentence that names the file and what to do.
public enum PickleError: Error, Equatable {
  /// The file itself cannot be opened, read or written.
  case file(WeightsError)
  case notACheckpoint(file: String)
  /// The pickle names a Python function or class that tensors do not need.
  case global(file: String, name: String)
  /// The pickle uses an instruction that tensors do not need.
  case instruction(file: String, name: String, offset: Int)
  case damaged(file: String, reason: String, offset: Int)
  case limit(file: String, what: String, limit: Int)
  case archive(file: String, reason: String)
  case storage(file: String, key: String, reason: String)
  case dtype(file: String, found: String)
  /// A tensor's shape, strides or place in its storage do not hold together.
  case view(file: String, reason: String)
  /// The tensors, written out, are far larger than the file: views that repeat their elements.
  case expansion(file: String, bytes: Int, limit: Int)
  case bigEndian(file: String)
  case noTensors(file: String)
}

extension PickleError: CustomStringConvertible {
  public var description: String { sentence.printable }

  private var sentence: String {
    switch self {
    case .file(let error): error.description
    case .notACheckpoint(let file):
      "'\(file)' was not written by torch.save; import takes its .ckpt, .pth, .pt and .bin files"
    case .global(let file, let name):
      "'\(file)' refers to \(name): not a tensor file; nothing of it was run. Save the state dict alone, or as "
        + ".safetensors"
    case .instruction(let file, let name, let offset):
      "'\(file)' uses the pickle instruction \(name) at byte \(offset): not a tensor file; nothing of it was run. "
        + "Save the state dict alone, or as .safetensors"
    case .damaged(let file, let reason, let offset):
      "'\(file)' is damaged at byte \(offset): \(reason); download it again"
    case .limit(let file, let what, let limit):
      "'\(file)' has more than \(limit) \(what); that is no checkpoint"
    case .archive(let file, let reason):
      "'\(file)' is not a readable archive of torch.save: \(reason); download it again, or save it again with torch.save"
    case .storage(let file, let key, let reason):
      "'\(file)': the storage '\(key)' \(reason); download the file again"
    case .dtype(let file, let found):
      "'\(file)' holds numbers of the type \(found), which is not supported; convert them to float16, bfloat16 or "
        + "float32 first"
    case .view(let file, let reason): "'\(file)' is damaged: \(reason); download it again"
    case .expansion(let file, let bytes, let limit):
      "'\(file)' would become \(bytes) bytes, more than the limit of \(limit) for its size: it holds expanded views; "
        + "save contiguous tensors"
    case .bigEndian(let file):
      "'\(file)' was saved on a big-endian machine; save it again on a little-endian one"
    case .noTensors(let file):
      "'\(file)' holds no tensors that a state dict would; there is nothing to import"
    }
  }
}

/// What an import accepts; each limit is far above any real checkpoint.
enum PickleLimits {
  /// Bytes of the pickles of a file.
  static let bytes = 64 << 20
  /// Values that they make, and entries of their memo.
  static let values = 4_000_000
  /// Nesting of containers on the way to a tensor.
  static let depth = 32
  /// Values looked at on the way to the tensors, those met repeatedly counted each time.
  static let visits = 1_000_000
  /// Bytes of all tensor names together.
  static let names = 32 << 20
  /// Files in an archive, and bytes of its directory.
  static let entries = 200_000
  static let directory = 64 << 20
  /// A file of `size` bytes may become this many: views may share and repeat elements, within reason.
  static func output(_ size: Int) -> Int {
    let (product, overflow) = size.multipliedReportingOverflow(by: 16)
    return overflow ? .max : max(product, 1 << 20)
  }
}
