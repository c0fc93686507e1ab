public import TensorCore

/// Why weights could not be read or written: one case per reason, each a sentence that names the file, the
/// tensor where there is one, and what to do.
public enum WeightsError: Error, Equatable {
  // Opening and reading.
  case notFound(file: String)
  case unreadable(file: String, reason: String)
  case notARegularFile(file: String, kind: String)
  case shrank(file: String, expected: Int, found: Int)
  case fileTooLarge(file: String, bytes: Int, limit: Int)
  case unsafeName(file: String, name: String)
  case unknownBuiltin(name: String, known: [String])
  case unwritable(file: String, reason: String)
  case json(JSONError)

  // The safetensors header.
  case tooSmall(file: String, bytes: Int)
  case foreign(file: String, format: ForeignFormat)
  case headerEmpty(file: String, length: Int)
  case headerTooLarge(file: String, length: UInt64, limit: Int)
  case headerBeyondFile(file: String, length: Int, available: Int)
  case headerStart(file: String, byte: UInt8)
  case headerTrailing(file: String)
  case header(JSONError)
  case tooManyTensors(file: String, limit: Int)
  case nameTooLong(file: String, bytes: Int, limit: Int)
  case nameEmpty(file: String)
  case nameControlCharacter(file: String, name: String)
  case duplicateTensor(file: String, name: String)
  case metadata(file: String, key: String)
  case unknownField(file: String, tensor: String, field: String)
  case missingField(file: String, tensor: String, field: String)
  case unknownDType(file: String, tensor: String, found: String)
  case rankTooLarge(file: String, tensor: String, limit: Int)
  case badNumber(file: String, tensor: String, field: String)
  case shapeOverflow(file: String, tensor: String, shape: [Int])
  case offsets(file: String, tensor: String, begin: Int, end: Int)
  case offsetCount(file: String, tensor: String)
  case sizeMismatch(file: String, tensor: String, expected: Int, found: Int)
  case beyondEnd(file: String, tensor: String, end: Int, available: Int)
  case overlap(file: String, tensor: String)
  case hole(file: String, tensor: String, bytes: Int)
  case unusedTail(file: String, bytes: Int)

  // Tensors.
  case missing(file: String, tensor: String, expected: [Int])
  case shape(file: String, tensor: String, expected: [Int], found: [Int])
  case dtype(file: String, tensor: String, expected: String, found: DType)
  case empty(file: String, tensor: String)
  case notFinite(file: String, tensor: String, index: Int)
  case overBudget(file: String, needed: UInt64, budget: UInt64)
  case quantization(file: String, tensor: String, reason: String)

  // Sharded files.
  case index(file: String, reason: String)
  case missingShard(index: String, shard: String)
  case shardLacksTensor(index: String, shard: String, tensor: String)
}

extension WeightsError {
  /// Whether a file is not there, rather than damaged.
  package var isAbsence: Bool {
    switch self {
    case .notFound, .missingShard: true
    default: false
    }
  }
}

extension WeightsError: CustomStringConvertible {
  public var description: String {
    (fileDescription ?? headerDescription ?? tensorDescription).printable
  }

  private var fileDescription: String? {
    switch self {
    case .notFound(let file): "'\(file)' does not exist; check the path"
    case .unreadable(let file, let reason): "'\(file)' cannot be read: \(reason)"
    case .notARegularFile(let file, let kind): "'\(file)' is \(kind), not a regular file"
    case .shrank(let file, let expected, let found):
      "'\(file)' became shorter while it was being read (\(expected) bytes expected, \(found) left); "
        + "load it again when nothing writes to it"
    case .fileTooLarge(let file, let bytes, let limit):
      "'\(file)' has \(bytes) bytes, more than the \(limit) expected of such a file"
    case .unsafeName(let file, let name):
      "'\(file)' refers to the file '\(name)'; only names inside the same folder are allowed"
    case .unknownBuiltin(let name, let known):
      "there is no builtin '\(name)'"
        + (known.isEmpty ? "; nothing is built in" : " (known: \(known.joined(separator: ", ")))")
    case .unwritable(let file, let reason): "'\(file)' cannot be written: \(reason)"
    case .json(let error): error.description
    case .index(let file, let reason): "the shard index '\(file)' is unusable: \(reason)"
    case .missingShard(let index, let shard):
      "the shard '\(shard)' named in '\(index)' is missing; download the model again"
    case .shardLacksTensor(let index, let shard, let tensor):
      "'\(index)' places the tensor '\(tensor)' in '\(shard)', which lacks it; download the model again"
    default: nil
    }
  }

  private var headerDescription: String? {
    switch self {
    case .tooSmall(let file, let bytes):
      "'\(file)' has \(bytes) bytes, too few for a safetensors file; download it again"
    case .foreign(let file, let format):
      "'\(file)' is \(format.name) and cannot be used; \(format.remedy)"
    case .headerEmpty(let file, let length): damaged(file, "its header length is \(length)")
    case .headerTooLarge(let file, let length, let limit):
      damaged(file, "its header length \(length) is above the limit of \(limit)")
    case .headerBeyondFile(let file, let length, let available):
      damaged(file, "its header needs \(length) bytes and only \(available) follow")
    case .headerStart(let file, let byte): damaged(file, "its header starts with byte \(byte) instead of '{'")
    case .headerTrailing(let file): damaged(file, "its header is followed by something other than spaces")
    case .header(let error): "the safetensors header is unusable: \(error)"
    case .tooManyTensors(let file, let limit): "'\(file)' lists more than \(limit) tensors"
    case .nameTooLong(let file, let bytes, let limit):
      "'\(file)' has a name of \(bytes) bytes in its header; the limit is \(limit)"
    case .nameEmpty(let file): "'\(file)' has a tensor with an empty name"
    case .nameControlCharacter(let file, let name):
      "'\(file)' has control characters in the name \(JSONValue.quoted(name))"
    case .duplicateTensor(let file, let name): "'\(file)' lists '\(name)' twice"
    case .metadata(let file, let key): "'\(file)': the metadata entry '\(key)' must be a string"
    case .unknownField(let file, let tensor, let field):
      "'\(file)': the tensor '\(tensor)' has the unknown field '\(field)'"
    case .missingField(let file, let tensor, let field): "'\(file)': the tensor '\(tensor)' lacks '\(field)'"
    case .unknownDType(let file, let tensor, let found):
      "'\(file)': the tensor '\(tensor)' has the unsupported dtype '\(found)'; convert the file to F16, BF16 or F32"
    case .rankTooLarge(let file, let tensor, let limit):
      "'\(file)': the tensor '\(tensor)' has more than \(limit) dimensions"
    case .badNumber(let file, let tensor, let field):
      "'\(file)': '\(field)' of the tensor '\(tensor)' must hold whole numbers, not negative, in plain digits"
    case .shapeOverflow(let file, let tensor, let shape):
      "'\(file)': the shape \(shape) of the tensor '\(tensor)' is too large to be real"
    case .offsets(let file, let tensor, let begin, let end):
      damaged(file, "the tensor '\(tensor)' begins at \(begin), after its end \(end)")
    case .offsetCount(let file, let tensor):
      damaged(file, "'data_offsets' of the tensor '\(tensor)' must hold two numbers")
    case .sizeMismatch(let file, let tensor, let expected, let found):
      damaged(file, "the tensor '\(tensor)' needs \(expected) bytes and is given \(found)")
    case .beyondEnd(let file, let tensor, let end, let available):
      "'\(file)' is cut off: the tensor '\(tensor)' ends at byte \(end) of \(available) stored; download it again"
    case .overlap(let file, let tensor): damaged(file, "the tensor '\(tensor)' overlaps another one")
    case .hole(let file, let tensor, let bytes):
      damaged(file, "\(bytes) unused bytes lie before the tensor '\(tensor)'")
    case .unusedTail(let file, let bytes): damaged(file, "\(bytes) unused bytes lie at its end")
    default: nil
    }
  }

  private var tensorDescription: String {
    switch self {
    case .missing(let file, let tensor, let expected):
      "the tensor '\(tensor)' of shape \(expected) is missing in '\(file)'; is the file made for this model?"
    case .shape(let file, let tensor, let expected, let found):
      "the tensor '\(tensor)' in '\(file)' has shape \(found), the model's configuration asks for \(expected)"
    case .dtype(let file, let tensor, let expected, let found):
      "the tensor '\(tensor)' in '\(file)' holds \(found.rawValue) where \(expected) is needed"
    case .empty(let file, let tensor): "the tensor '\(tensor)' in '\(file)' is empty where data is needed"
    case .notFinite(let file, let tensor, let index):
      "the tensor '\(tensor)' in '\(file)' has a NaN or an infinity at element \(index); the file is damaged"
    case .overBudget(let file, let needed, let budget):
      "'\(file)' needs \(needed) bytes in memory and the memory budget is \(budget); raise the budget "
        + "or take a smaller model"
    case .quantization(let file, let tensor, let reason):
      "the quantised tensor '\(tensor)' in '\(file)' \(reason); make the model again with videolora quantize"
    default: "the weights cannot be read"
    }
  }

  private func damaged(_ file: String, _ what: String) -> String {
    "'\(file)' is damaged or not a safetensors file: \(what); download it again"
  }
}

extension String {
  /// The text with control characters, which names from files may hold, made visible.
  package var printable: String {
    guard unicodeScalars.contains(where: { $0.properties.generalCategory == .control }) else { return self }
    return unicodeScalars.reduce(into: "") { result, scalar in
      if scalar.properties.generalCategory == .control {
        result += "\\u{\(String(scalar.value, radix: 16))}"
      } else {
        result.unicodeScalars.append(scalar)
      }
    }
  }
}
