/// Finds the tensors in the values of a checkpoint and gives them names.
struct StateDict {
  private(set) var tensors: [(String, Int32)] = []
  private(set) var metadata: [(String, String)] = []
  private(set) var leftOut: [String] = []

  private let file: String
  private let heap: PickleHeap
  private var visits = 0
  private var nameBytes = 0
  private var unlisted = 0

  init(file: String, heap: PickleHeap) {
    self.file = file
    self.heap = heap
  }

  /// Collects from the root: a dict of tensors, or one that wraps it as `state_dict`, `model` or `module`.
  /// Nested dicts give names with dots.
  mutating func collect(_ root: PickleRef) throws(PickleError) {
    var (state, path) = (root, "")
    while let inner = try wrapped(in: state) {
      // What stands beside the state dict keeps its own name.
      for (key, value) in try members(of: state) where value != inner {
        try walk(value, path: path + key, depth: 1, keepsTensors: false)
      }
      state = inner
      path = ""
    }
    try walk(state, path: path, depth: 0, keepsTensors: true)
    stripModule()
    if unlisted > 0 { leftOut.append("\(unlisted) more") }
  }

  /// The dict that the wrapper at `ref` is about: `state_dict` always, `model` and `module` where no other
  /// entry has tensors.
  private mutating func wrapped(in ref: PickleRef) throws(PickleError) -> PickleRef? {
    guard case .dictionary = heap[ref] else { return nil }
    let entries = try members(of: ref)
    for name in ["state_dict", "model", "module"] {
      guard let inner = entries.first(where: { $0.0 == name })?.1, inner != ref,
        case .dictionary = heap[inner], try holdsTensors(inner, depth: 0)
      else { continue }
      if name == "state_dict" { return inner }
      var isOnly = true
      for (key, value) in entries where key != name {
        if try holdsTensors(value, depth: 0) { isOnly = false }
      }
      if isOnly { return inner }
    }
    return nil
  }

  /// Whether a value is or contains a tensor.
  private mutating func holdsTensors(_ ref: PickleRef, depth: Int) throws(PickleError) -> Bool {
    try visit(depth)
    switch heap[ref] {
    case .tensor: return true
    case .dictionary(let items), .list(let items), .tuple(let items):
      for item in items where try holdsTensors(item, depth: depth + 1) { return true }
      return false
    default: return false
    }
  }

  /// Takes a value and what it contains: tensors become tensors, numbers and short strings metadata.
  private mutating func walk(
    _ ref: PickleRef, path: String, depth: Int, keepsTensors: Bool
  ) throws(PickleError) {
    try visit(depth)
    switch heap[ref] {
    case .tensor(let index) where keepsTensors: try add(path.isEmpty ? "tensor" : path, index)
    case .dictionary where keepsTensors:
      for (key, value) in try members(of: ref) {
        try walk(
          value, path: try joined(path, key), depth: depth + 1, keepsTensors: true)
      }
    case .list(let items) where keepsTensors, .tuple(let items) where keepsTensors:
      for (index, item) in items.enumerated() {
        try walk(item, path: try joined(path, "\(index)"), depth: depth + 1, keepsTensors: true)
      }
    case .bool(let value): note(path, value ? "true" : "false")
    case .integer(let value): note(path, "\(value)")
    case .float(let value): note(path, "\(value)")
    case .string(let value) where value.utf8.count <= 4096: note(path, value)
    case .none: break
    case let other: leave(path, other.kindName)
    }
  }

  private mutating func add(_ name: String, _ index: Int32) throws(PickleError) {
    guard tensors.count < SafetensorsLimits.tensors else {
      throw .limit(file: file, what: "tensors", limit: SafetensorsLimits.tensors)
    }
    nameBytes += name.utf8.count
    guard nameBytes <= PickleLimits.names else {
      throw .limit(file: file, what: "bytes of tensor names", limit: PickleLimits.names)
    }
    tensors.append((name, index))
  }

  private mutating func note(_ path: String, _ value: String) {
    guard metadata.count < 1000, path.utf8.count <= SafetensorsLimits.nameBytes else {
      return leave(path, "a value")
    }
    metadata.append((path, value))
  }

  private mutating func leave(_ path: String, _ kind: String) {
    if leftOut.count < 100 {
      leftOut.append("\(path.isEmpty ? "the top level" : String(path.prefix(100))) (\(kind))")
    } else {
      unlisted += 1
    }
  }

  /// The entries of a dict whose keys are strings or integers, the last one of each key; the others are left
  /// out.
  private mutating func members(of ref: PickleRef) throws(PickleError) -> [(String, PickleRef)] {
    guard case .dictionary(let items) = heap[ref] else { return [] }
    var result: [(String, PickleRef)] = []
    var places: [String: Int] = [:]
    for place in stride(from: 0, to: items.count - 1, by: 2) {
      try visit(0)
      let key: String
      switch heap[items[place]] {
      case .string(let text): key = text
      case .integer(let number): key = "\(number)"
      case let other:
        leave("an entry", "its key is \(other.kindName)")
        continue
      }
      if key.utf8.count > SafetensorsLimits.nameBytes {
        throw .file(
          .nameTooLong(file: file, bytes: key.utf8.count, limit: SafetensorsLimits.nameBytes))
      }
      if let known = places[key] {
        result[known].1 = items[place + 1]
      } else {
        places[key] = result.count
        result.append((key, items[place + 1]))
      }
    }
    return result
  }

  private func joined(_ path: String, _ key: String) throws(PickleError) -> String {
    let name = path.isEmpty ? key : "\(path).\(key)"
    if name.utf8.count > SafetensorsLimits.nameBytes {
      throw .file(.nameTooLong(file: file, bytes: name.utf8.count, limit: SafetensorsLimits.nameBytes))
    }
    return name
  }

  /// Takes `module.` off, which training on several devices puts before every name.
  private mutating func stripModule() {
    let prefix = "module."
    guard tensors.allSatisfy({ $0.0.hasPrefix(prefix) && $0.0.utf8.count > prefix.utf8.count }) else {
      return
    }
    tensors = tensors.map { (String($0.0.dropFirst(prefix.count)), $0.1) }
  }

  private mutating func visit(_ depth: Int) throws(PickleError) {
    guard depth <= PickleLimits.depth else {
      throw .limit(file: file, what: "levels of nesting", limit: PickleLimits.depth)
    }
    visits += 1
    guard visits <= PickleLimits.visits else {
      throw .limit(file: file, what: "values on the way to its tensors", limit: PickleLimits.visits)
    }
  }
}
