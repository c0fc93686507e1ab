import TensorCore

/// The place of a value in `PickleHeap`.
typealias PickleRef = Int32

/// A value that a pickle makes. Containers hold places, not values: nothing nests in memory, so that depth
/// and cycles cost nothing.
enum PickleValue {
  case none
  case bool(Bool)
  case integer(Int)
  /// An integer above 64 bits, little-endian two's complement.
  case wideInteger([UInt8])
  case float(Double)
  case string(String)
  case bytes([UInt8])
  case tuple([PickleRef])
  case list([PickleRef])
  /// Keys and values in turn.
  case dictionary([PickleRef])
  case global(PickleGlobal)
  case storage(TorchStorageView)
  /// An index into `PickleHeap.tensors`.
  case tensor(Int32)

  /// What it is, for messages.
  var kindName: String {
    switch self {
    case .none: "None"
    case .bool: "a bool"
    case .integer, .wideInteger: "an integer"
    case .float: "a float"
    case .string: "a string"
    case .bytes: "bytes"
    case .tuple: "a tuple"
    case .list: "a list"
    case .dictionary: "a dict"
    case .global(let global): global.name
    case .storage: "a storage"
    case .tensor: "a tensor"
    }
  }
}

/// The functions and classes that a checkpoint of tensors refers to. Each is a word to this reader and no
/// more.
enum PickleGlobal: Equatable {
  case orderedDict, size, set
  case rebuildTensor, rebuildTensor2, rebuildTensor3, rebuildParameter, rebuildParameterWithState,
    rebuildFromType
  case parameterClass, tensorClass
  case untypedStorage
  /// A storage class such as `torch.FloatStorage`.
  case storage(DType)
  /// A dtype such as `torch.bfloat16`.
  case dtype(DType)

  /// The allowed names; nil for every other.
  init?(module: String, name: String) {
    switch (module, name) {
    case ("collections", "OrderedDict"): self = .orderedDict
    case ("__builtin__", "set"), ("builtins", "set"): self = .set
    case ("torch", "Size"): self = .size
    case ("torch._utils", "_rebuild_tensor"): self = .rebuildTensor
    case ("torch._utils", "_rebuild_tensor_v2"): self = .rebuildTensor2
    case ("torch._utils", "_rebuild_tensor_v3"): self = .rebuildTensor3
    case ("torch._utils", "_rebuild_parameter"): self = .rebuildParameter
    case ("torch._utils", "_rebuild_parameter_with_state"): self = .rebuildParameterWithState
    case ("torch._tensor", "_rebuild_from_type_v2"): self = .rebuildFromType
    case ("torch.nn.parameter", "Parameter"), ("torch.nn", "Parameter"): self = .parameterClass
    case ("torch", "Tensor"): self = .tensorClass
    case ("torch.storage", "UntypedStorage"), ("torch", "UntypedStorage"): self = .untypedStorage
    case ("torch", _), ("torch.cuda", _):
      if let dtype = Self.storageClasses.first(where: { $0.0 == name })?.1 {
        self = .storage(dtype)
      } else if module == "torch", let dtype = Self.dtypes.first(where: { $0.0 == name })?.1 {
        self = .dtype(dtype)
      } else {
        return nil
      }
    default: return nil
    }
  }

  /// The name, for messages.
  var name: String {
    switch self {
    case .orderedDict: "collections.OrderedDict"
    case .size: "torch.Size"
    case .set: "builtins.set"
    case .rebuildTensor: "torch._utils._rebuild_tensor"
    case .rebuildTensor2: "torch._utils._rebuild_tensor_v2"
    case .rebuildTensor3: "torch._utils._rebuild_tensor_v3"
    case .rebuildParameter: "torch._utils._rebuild_parameter"
    case .rebuildParameterWithState: "torch._utils._rebuild_parameter_with_state"
    case .rebuildFromType: "torch._tensor._rebuild_from_type_v2"
    case .parameterClass: "torch.nn.parameter.Parameter"
    case .tensorClass: "torch.Tensor"
    case .untypedStorage: "torch.storage.UntypedStorage"
    case .storage(let dtype): "the storage class of \(dtype.rawValue)"
    case .dtype(let dtype): "torch.\(dtype.rawValue)"
    }
  }

  private static let storageClasses: [(String, DType)] = [
    ("FloatStorage", .float32), ("HalfStorage", .float16), ("BFloat16Storage", .bfloat16),
    ("DoubleStorage", .float64), ("LongStorage", .int64), ("IntStorage", .int32), ("ShortStorage", .int16),
    ("CharStorage", .int8), ("ByteStorage", .uint8), ("BoolStorage", .bool),
  ]

  private static let dtypes: [(String, DType)] =
    DType.allCases.map { ($0.rawValue, $0) } + [
      ("float", .float32), ("half", .float16), ("double", .float64), ("long", .int64), ("int", .int32),
      ("short", .int16),
    ]
}

/// A storage that the pickle refers to.
struct TorchStorage: Equatable {
  let key: String
  /// nil for an untyped storage, whose `count` are bytes.
  let dtype: DType?
  let count: Int

  /// Bytes of one element.
  var elementSize: Int { dtype?.byteSize ?? 1 }
}

/// A part of a storage, in elements: all of it, but for views in old files.
struct TorchStorageView {
  /// Its place in `PickleHeap.storages`.
  let storage: Int
  let offset: Int
  let count: Int
}

/// A tensor as a view of a storage. Construction has checked that every element lies inside.
struct TorchTensor {
  /// Its place in `PickleHeap.storages`.
  let storage: Int
  let dtype: DType
  let shape: [Int]
  /// In elements.
  let strides: [Int]
  /// Bytes from the storage's start to the first element.
  let byteOffset: Int
  /// Bytes of the contiguous tensor.
  let byteCount: Int
}

/// The values of a pickle, side by side.
struct PickleHeap {
  private(set) var values: [PickleValue] = [.none, .bool(false), .bool(true), .tuple([])]
  var storages: [TorchStorage] = []
  var storageOfKey: [String: Int] = [:]
  var tensors: [TorchTensor] = []
  /// Members of containers that were copied to others.
  var copies = 0

  static let none: PickleRef = 0
  static let emptyTuple: PickleRef = 3
  static func bool(_ value: Bool) -> PickleRef { value ? 2 : 1 }

  subscript(_ ref: PickleRef) -> PickleValue { values[Int(ref)] }

  var count: Int { values.count }

  mutating func add(_ value: PickleValue) -> PickleRef {
    values.append(value)
    return PickleRef(values.count - 1)
  }

  /// Adds to the list at `ref`; false when there is no list.
  mutating func append(_ items: ArraySlice<PickleRef>, to ref: PickleRef) -> Bool {
    guard case .list(var elements) = values[Int(ref)] else { return false }
    values[Int(ref)] = .none  // the array is unique again and grows in place
    elements.append(contentsOf: items)
    values[Int(ref)] = .list(elements)
    return true
  }

  /// Adds keys and values in turn to the dictionary at `ref`; false when there is no dictionary.
  mutating func insert(_ pairs: ArraySlice<PickleRef>, into ref: PickleRef) -> Bool {
    guard case .dictionary(var members) = values[Int(ref)] else { return false }
    values[Int(ref)] = .none
    members.append(contentsOf: pairs)
    values[Int(ref)] = .dictionary(members)
    return true
  }
}
