// Python's pickle format (Lib/pickletools.py), as far as torch.save writes it: protocols 0 to 5.

/// Runs the instructions of one pickle. It makes values of `PickleValue` and nothing else: a name of a Python
/// function is looked up in `PickleGlobal`, and any other ends the reading.
struct PickleMachine {
  private var input: PickleInput
  private(set) var heap = PickleHeap()
  private var stack: [PickleRef] = []
  /// Heights of the stack at open marks.
  private var marks: [Int] = []
  private var memo: [UInt32: PickleRef] = [:]
  private let pickleEnd: Int

  private init(_ input: PickleInput) {
    self.input = input
    pickleEnd = min(input.end, input.position + PickleLimits.bytes)
  }

  /// Reads one pickle from `input`, which stands behind it afterwards.
  static func run(_ input: inout PickleInput) throws(PickleError) -> (heap: PickleHeap, root: PickleRef) {
    var machine = PickleMachine(input)
    let root = try machine.run()
    input = machine.input
    return (machine.heap, root)
  }

  private mutating func run() throws(PickleError) -> PickleRef {
    while true {
      guard input.position < pickleEnd || pickleEnd == input.end else {
        throw .limit(file: input.file, what: "bytes of pickle", limit: PickleLimits.bytes)
      }
      let opcode = try input.byte()
      if opcode == UInt8(ascii: ".") {
        let root = try pop()
        guard stack.isEmpty, marks.isEmpty else { throw input.damaged("values are left over at the end") }
        return root
      }
      if try scalar(opcode) { continue }
      if try container(opcode) { continue }
      if try reference(opcode) { continue }
      throw .instruction(file: input.file, name: Self.name(of: opcode), offset: input.position - 1)
    }
  }

  // MARK: Numbers and texts

  private mutating func scalar(_ opcode: UInt8) throws(PickleError) -> Bool {
    switch opcode {
    case UInt8(ascii: "N"): stack.append(PickleHeap.none)
    case 0x88: stack.append(PickleHeap.bool(true))
    case 0x89: stack.append(PickleHeap.bool(false))
    case UInt8(ascii: "J"): try push(.integer(Int(try input.integer(Int32.self))))
    case UInt8(ascii: "K"): try push(.integer(Int(try input.byte())))
    case UInt8(ascii: "M"): try push(.integer(Int(try input.integer(UInt16.self))))
    case 0x8a: try long(UInt64(try input.byte()))
    case 0x8b: try long(UInt64(try input.integer(UInt32.self)))
    case UInt8(ascii: "I"), UInt8(ascii: "L"): try decimal()
    case UInt8(ascii: "G"):
      try push(.float(Double(bitPattern: try input.integer(UInt64.self).byteSwapped)))
    case UInt8(ascii: "F"):
      guard let value = Double(String(decoding: try input.line(), as: UTF8.self)) else {
        throw input.damaged("a float is not a number")
      }
      try push(.float(value))
    case UInt8(ascii: "X"): try text(UInt64(try input.integer(UInt32.self)))
    case UInt8(ascii: "T"): try text(UInt64(try input.integer(UInt32.self)))
    case UInt8(ascii: "U"), 0x8c: try text(UInt64(try input.byte()))
    case 0x8d: try text(try input.integer(UInt64.self))
    case UInt8(ascii: "V"): try push(.string(try utf8(try input.line())))
    case UInt8(ascii: "S"): try quoted()
    case UInt8(ascii: "B"): try push(.bytes(try input.bytes(UInt64(try input.integer(UInt32.self)))))
    case UInt8(ascii: "C"): try push(.bytes(try input.bytes(UInt64(try input.byte()))))
    case 0x8e, 0x96: try push(.bytes(try input.bytes(try input.integer(UInt64.self))))
    default: return false
    }
    return true
  }

  private mutating func long(_ count: UInt64) throws(PickleError) {
    let bytes = try input.bytes(count)
    guard bytes.count <= 8 else { return try push(.wideInteger(bytes)) }
    let isNegative = bytes.last.map { $0 >= 0x80 } ?? false
    var value: UInt64 = isNegative ? .max : 0
    for byte in bytes.reversed() { value = value << 8 | UInt64(byte) }
    try push(.integer(Int(truncatingIfNeeded: value)))
  }

  /// Protocol 0: a whole number in digits; `00` and `01` are the booleans.
  private mutating func decimal() throws(PickleError) {
    var digits = String(decoding: try input.line(), as: UTF8.self)
    if digits == "00" || digits == "01" { return stack.append(PickleHeap.bool(digits == "01")) }
    if digits.hasSuffix("L") { digits.removeLast() }
    guard let value = Int(digits) else { throw input.damaged("an integer is not a number of 64 bits") }
    try push(.integer(value))
  }

  private mutating func text(_ count: UInt64) throws(PickleError) {
    try push(.string(try utf8(try input.bytes(count))))
  }

  /// Protocol 0: a string in quotes. Strings with escapes do not occur in state dicts.
  private mutating func quoted() throws(PickleError) {
    let line = try input.line()
    guard line.count >= 2, let quote = line.first, quote == line.last, [0x22, 0x27].contains(quote),
      !line.contains(UInt8(ascii: "\\"))
    else { throw input.damaged("a string is not quoted") }
    try push(.string(try utf8(Array(line.dropFirst().dropLast()))))
  }

  private func utf8(_ bytes: [UInt8]) throws(PickleError) -> String {
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw input.damaged("a string is not valid UTF-8")
    }
    return text
  }

  // MARK: Containers

  private mutating func container(_ opcode: UInt8) throws(PickleError) -> Bool {
    switch opcode {
    case UInt8(ascii: "("):
      guard marks.count < PickleLimits.values else { throw tooMany }
      marks.append(stack.count)
    case UInt8(ascii: ")"): stack.append(PickleHeap.emptyTuple)
    case UInt8(ascii: "t"): try push(.tuple(Array(try popToMark())))
    case 0x85: try pushTuple(1)
    case 0x86: try pushTuple(2)
    case 0x87: try pushTuple(3)
    case UInt8(ascii: "]"), 0x8f: try push(.list([]))
    case UInt8(ascii: "l"), 0x91: try push(.list(Array(try popToMark())))
    case UInt8(ascii: "}"): try push(.dictionary([]))
    case UInt8(ascii: "d"): try push(.dictionary(Array(try pairs(try popToMark()))))
    case UInt8(ascii: "a"): try append([try pop()])
    case UInt8(ascii: "e"), 0x90: try append(try popToMark())
    case UInt8(ascii: "s"):
      let value = try pop()
      try insert([try pop(), value])
    case UInt8(ascii: "u"): try insert(try pairs(try popToMark()))
    case UInt8(ascii: "0"):
      if let mark = marks.last, mark == stack.count { marks.removeLast() } else { _ = try pop() }
    case UInt8(ascii: "1"): _ = try popToMark()
    case UInt8(ascii: "2"): stack.append(try top())
    default: return false
    }
    guard stack.count <= PickleLimits.values else { throw tooMany }
    return true
  }

  private mutating func pushTuple(_ count: Int) throws(PickleError) {
    var items: [PickleRef] = []
    for _ in 0..<count { items.append(try pop()) }
    try push(.tuple(items.reversed()))
  }

  private mutating func append(_ items: ArraySlice<PickleRef>) throws(PickleError) {
    guard heap.append(items, to: try top()) else { throw input.damaged("it appends to what is no list") }
  }

  private mutating func insert(_ pairs: ArraySlice<PickleRef>) throws(PickleError) {
    guard heap.insert(pairs, into: try top()) else { throw input.damaged("it sets a key of what is no dict") }
  }

  private func pairs(_ items: ArraySlice<PickleRef>) throws(PickleError) -> ArraySlice<PickleRef> {
    guard items.count.isMultiple(of: 2) else { throw input.damaged("a key stands without a value") }
    return items
  }

  // MARK: Memo, names and calls

  private mutating func reference(_ opcode: UInt8) throws(PickleError) -> Bool {
    switch opcode {
    case 0x80:
      let version = try input.byte()
      guard version <= 5 else { throw input.damaged("its pickle protocol is \(version)") }
    case 0x95: _ = try input.integer(UInt64.self)  // the frame's length; nothing is framed here
    case UInt8(ascii: "q"): try remember(UInt32(try input.byte()))
    case UInt8(ascii: "r"): try remember(try input.integer(UInt32.self))
    case UInt8(ascii: "p"): try remember(try index())
    case 0x94: try remember(UInt32(clamping: memo.count))
    case UInt8(ascii: "h"): try recall(UInt32(try input.byte()))
    case UInt8(ascii: "j"): try recall(try input.integer(UInt32.self))
    case UInt8(ascii: "g"): try recall(try index())
    case UInt8(ascii: "c"):
      let module = try utf8(try input.line())
      try pushGlobal(module, try utf8(try input.line()))
    case 0x93:
      let name = try pop()
      guard case .string(let name) = heap[name], case .string(let module) = heap[try pop()] else {
        throw input.damaged("a name is not a string")
      }
      try pushGlobal(module, name)
    case UInt8(ascii: "i"):
      throw .global(
        file: input.file, name: Self.short("\(try utf8(try input.line())).\(try utf8(try input.line()))"))
    case UInt8(ascii: "R"), 0x81:
      let arguments = try pop()
      guard case .tuple(let arguments) = heap[arguments] else {
        throw input.damaged("a call has no arguments")
      }
      stack.append(try call(heap[try pop()], arguments))
    case UInt8(ascii: "b"):
      // The state of an OrderedDict holds version numbers of modules, that of a tensor Python attributes.
      _ = try pop()
      switch heap[try top()] {
      case .dictionary, .tensor: break
      case let other: throw input.damaged("it sets the state of \(other.kindName)")
      }
    case UInt8(ascii: "Q"): stack.append(try persistent(try pop()))
    default: return false
    }
    return true
  }

  private mutating func remember(_ index: UInt32) throws(PickleError) {
    guard memo.count < PickleLimits.values else { throw tooMany }
    memo[index] = try top()
  }

  private mutating func recall(_ index: UInt32) throws(PickleError) {
    guard let ref = memo[index] else { throw input.damaged("it recalls what it has not made") }
    guard stack.count < PickleLimits.values else { throw tooMany }
    stack.append(ref)
  }

  private mutating func index() throws(PickleError) -> UInt32 {
    guard let index = UInt32(String(decoding: try input.line(), as: UTF8.self)) else {
      throw input.damaged("a place of the memo is not a number")
    }
    return index
  }

  private mutating func pushGlobal(_ module: String, _ name: String) throws(PickleError) {
    guard let global = PickleGlobal(module: module, name: name) else {
      throw .global(file: input.file, name: Self.short("\(module).\(name)"))
    }
    try push(.global(global))
  }

  private mutating func call(_ function: PickleValue, _ arguments: [PickleRef]) throws(PickleError)
    -> PickleRef
  {
    guard heap.count < PickleLimits.values else { throw tooMany }
    guard case .global(let global) = function else { throw input.damaged("it calls \(function.kindName)") }
    var builder = TorchBuilder(input: input, heap: heap)
    heap = PickleHeap()  // the builder's is the only one, so that it grows in place
    defer { heap = builder.heap }
    return try builder.call(global, arguments)
  }

  private mutating func persistent(_ ref: PickleRef) throws(PickleError) -> PickleRef {
    guard heap.count < PickleLimits.values else { throw tooMany }
    var builder = TorchBuilder(input: input, heap: heap)
    heap = PickleHeap()
    defer { heap = builder.heap }
    return try builder.storage(ref)
  }

  // MARK: The stack

  private mutating func push(_ value: PickleValue) throws(PickleError) {
    guard heap.count < PickleLimits.values, stack.count < PickleLimits.values else { throw tooMany }
    stack.append(heap.add(value))
  }

  private func top() throws(PickleError) -> PickleRef {
    guard let ref = stack.last, stack.count > marks.last ?? 0 else { throw empty }
    return ref
  }

  private mutating func pop() throws(PickleError) -> PickleRef {
    let ref = try top()
    stack.removeLast()
    return ref
  }

  private mutating func popToMark() throws(PickleError) -> ArraySlice<PickleRef> {
    guard let mark = marks.popLast(), mark <= stack.count else { throw input.damaged("a mark is missing") }
    let items = Array(stack[mark...])
    stack.removeSubrange(mark...)
    return items[...]
  }

  private var empty: PickleError { input.damaged("it takes a value where there is none") }

  private var tooMany: PickleError { .limit(file: input.file, what: "values", limit: PickleLimits.values) }

  private static func short(_ name: String) -> String { String(name.prefix(100)) }

  private static func name(of opcode: UInt8) -> String {
    switch opcode {
    case UInt8(ascii: "P"): "PERSID"
    case UInt8(ascii: "o"): "OBJ"
    case 0x82...0x84: "EXT"
    case 0x92: "NEWOBJ_EX"
    case 0x97, 0x98: "BUFFER"
    default: "0x" + String(opcode, radix: 16)
    }
  }
}
