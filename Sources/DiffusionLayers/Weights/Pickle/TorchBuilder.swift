import TensorCore

/// Makes storages and tensors from the calls that torch's pickles contain (torch/_utils.py,
/// torch/serialization.py).
struct TorchBuilder {
  let input: PickleInput
  var heap: PickleHeap

  /// A call of one of the known functions.
  mutating func call(_ function: PickleGlobal, _ arguments: [PickleRef]) throws(PickleError) -> PickleRef {
    switch function {
    case .orderedDict: return try orderedDict(arguments)
    case .size:
      guard arguments.count == 1, case .tuple = heap[arguments[0]] else { throw wrong(function) }
      return arguments[0]
    case .set:
      guard arguments.count == 1, case .list = heap[arguments[0]] else { throw wrong(function) }
      return arguments[0]
    case .rebuildTensor:
      guard arguments.count == 4 else { throw wrong(function) }
      return try tensor(arguments, dtype: nil)
    case .rebuildTensor2:
      guard (6...7).contains(arguments.count) else { throw wrong(function) }
      return try tensor(arguments, dtype: nil)
    case .rebuildTensor3:
      guard (7...8).contains(arguments.count), case .global(.dtype(let dtype)) = heap[arguments[6]] else {
        throw wrong(function)
      }
      return try tensor(arguments, dtype: dtype)
    case .rebuildParameter, .rebuildParameterWithState:
      guard let data = arguments.first, case .tensor = heap[data] else { throw wrong(function) }
      return data
    case .rebuildFromType:
      guard arguments.count == 4, case .global(let inner) = heap[arguments[0]],
        [.rebuildTensor2, .rebuildTensor3, .rebuildParameter].contains(inner),
        case .tuple(let innerArguments) = heap[arguments[2]]
      else { throw wrong(function) }
      return try call(inner, innerArguments)
    case .parameterClass, .tensorClass, .untypedStorage, .storage, .dtype: throw wrong(function)
    }
  }

  /// `OrderedDict()`, or of a list of pairs as old protocols write it.
  private mutating func orderedDict(_ arguments: [PickleRef]) throws(PickleError) -> PickleRef {
    guard let first = arguments.first else { return heap.add(.dictionary([])) }
    guard arguments.count == 1, case .list(let pairs) = heap[first] else { throw wrong(.orderedDict) }
    // Each pair is written once; a list that is turned into dictionaries over and over is no checkpoint.
    heap.copies += pairs.count
    guard heap.copies <= input.consumed else { throw wrong(.orderedDict) }
    var members: [PickleRef] = []
    for pair in pairs {
      switch heap[pair] {
      case .list(let items), .tuple(let items):
        guard items.count == 2 else { throw wrong(.orderedDict) }
        members += items
      default: throw wrong(.orderedDict)
      }
    }
    return heap.add(.dictionary(members))
  }

  /// A persistent id: `('storage', class, key, device, count)`, and in old files a view `(key, offset,
  /// count)`.
  mutating func storage(_ ref: PickleRef) throws(PickleError) -> PickleRef {
    guard case .tuple(let items) = heap[ref], (5...6).contains(items.count),
      case .string("storage") = heap[items[0]], case .global(let type) = heap[items[1]],
      case .integer(let count) = heap[items[4]]
    else { throw input.damaged("a reference to a storage has another form") }
    let key: String
    switch heap[items[2]] {
    case .string(let text): key = text
    case .integer(let number): key = "\(number)"
    default: throw input.damaged("the key of a storage is not a string")
    }
    guard key.utf8.count <= 256 else { throw input.damaged("the key of a storage is too long") }
    let dtype: DType?
    switch type {
    case .storage(let known): dtype = known
    case .untypedStorage: dtype = nil
    default: throw input.damaged("a storage has no class")
    }
    let (bytes, overflow) = count.multipliedReportingOverflow(by: dtype?.byteSize ?? 1)
    guard count >= 0, !overflow, bytes <= 1 << 60 else {
      throw input.damaged("a storage has \(count) elements")
    }
    let storage = TorchStorage(key: key, dtype: dtype, count: count)
    let index: Int
    if let known = heap.storageOfKey[key] {
      guard heap.storages[known] == storage else {
        throw input.damaged("the storage '\(key.prefix(40))' is described in two ways")
      }
      index = known
    } else {
      index = heap.storages.count
      heap.storages.append(storage)
      heap.storageOfKey[key] = index
    }
    var view = TorchStorageView(storage: index, offset: 0, count: count)
    if items.count == 6, case .tuple(let parts) = heap[items[5]] {
      guard parts.count == 3, case .integer(let offset) = heap[parts[1]],
        case .integer(let length) = heap[parts[2]], offset >= 0, length >= 0, offset <= count,
        length <= count - offset
      else { throw input.damaged("a view of the storage '\(key.prefix(40))' lies outside of it") }
      view = TorchStorageView(storage: index, offset: offset, count: length)
    }
    return heap.add(.storage(view))
  }

  /// `(storage, offset, size, stride, …)`; with `dtype` the storage is untyped.
  private mutating func tensor(_ arguments: [PickleRef], dtype: DType?) throws(PickleError) -> PickleRef {
    guard case .storage(let view) = heap[arguments[0]], case .integer(let offset) = heap[arguments[1]],
      let shape = integers(arguments[2]), let strides = integers(arguments[3])
    else { throw input.damaged("a tensor has no storage, offset, size and stride") }
    guard shape.count == strides.count else {
      throw input.damaged("a tensor has \(shape.count) sizes and \(strides.count) strides")
    }
    guard shape.count <= SafetensorsLimits.rank else {
      throw .limit(file: input.file, what: "dimensions of a tensor", limit: SafetensorsLimits.rank)
    }
    let storage = heap.storages[view.storage]
    guard let type = dtype ?? storage.dtype else { throw input.damaged("a tensor has no dtype") }
    let size = type.byteSize
    let available = view.count * storage.elementSize / size
    guard offset >= 0, (shape + strides).allSatisfy({ $0 >= 0 }) else {
      throw .view(file: input.file, reason: "a tensor has the negative size or stride \(shape), \(strides)")
    }
    let isEmpty = shape.contains(0)
    var last = offset
    var bytes = isEmpty ? 0 : size
    for (extent, stride) in zip(shape, strides) where !isEmpty {
      let (reach, first) = (extent - 1).multipliedReportingOverflow(by: stride)
      let (sum, second) = last.addingReportingOverflow(reach)
      let (product, third) = bytes.multipliedReportingOverflow(by: extent)
      guard !first, !second, !third, product <= 1 << 60 else {
        throw .view(
          file: input.file,
          reason: "a tensor's shape \(shape) with strides \(strides) is too large to be real")
      }
      (last, bytes) = (sum, product)
    }
    guard isEmpty || last < available else {
      throw .view(
        file: input.file,
        reason:
          "a tensor of shape \(shape) needs \(last) elements of the storage '\(storage.key.prefix(40))', which "
          + "has \(available)")
    }
    // The element just found lies inside, so these products fit.
    let byteOffset = isEmpty ? 0 : view.offset * storage.elementSize + offset * size
    heap.tensors.append(
      TorchTensor(
        storage: view.storage, dtype: type, shape: shape, strides: strides, byteOffset: byteOffset,
        byteCount: bytes))
    return heap.add(.tensor(Int32(heap.tensors.count - 1)))
  }

  private func integers(_ ref: PickleRef) -> [Int]? {
    let items: [PickleRef]
    switch heap[ref] {
    case .tuple(let elements), .list(let elements): items = elements
    default: return nil
    }
    guard items.count <= 64 else { return nil }
    var values: [Int] = []
    for item in items {
      guard case .integer(let value) = heap[item] else { return nil }
      values.append(value)
    }
    return values
  }

  private func wrong(_ function: PickleGlobal) -> PickleError {
    input.damaged("\(function.name) is called with other arguments than torch.save writes")
  }
}
