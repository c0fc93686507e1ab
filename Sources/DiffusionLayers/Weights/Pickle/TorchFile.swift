/// The root of a checkpoint's pickle and the places of its storages.
struct TorchFile {
  let heap: PickleHeap
  let root: PickleRef
  /// By index of `PickleHeap.storages`; nil for one whose bytes are not in the file.
  let storages: [Range<Int>?]

  init(_ source: ByteSource) throws(PickleError) {
    let head: [UInt8]
    do { head = try source.bytes(0..<min(4, source.count)) } catch { throw .file(error) }
    if head == [0x50, 0x4b, 3, 4] {
      try self.init(archive: source)
    } else if head.first == 0x80 {
      try self.init(stream: source)
    } else {
      throw .notACheckpoint(file: source.name)
    }
  }

  /// The zip form: `<stem>/data.pkl`, and each storage as `<stem>/data/<key>`.
  private init(archive source: ByteSource) throws(PickleError) {
    let zip = try ZipDirectory(source)
    let pickles = zip.entries.keys.filter { name in
      name.hasSuffix("/data.pkl") && !name.dropLast("/data.pkl".count).contains("/")
    }
    guard let pickle = pickles.first, pickles.count == 1, let range = zip.entries[pickle] else {
      throw .notACheckpoint(file: source.name)
    }
    let stem = pickle.dropLast("data.pkl".count)
    if let order = zip.entries[stem + "byteorder"], order.count < 16 {
      let word: [UInt8]
      do { word = try source.bytes(order) } catch { throw .file(error) }
      if word.starts(with: "big".utf8) { throw .bigEndian(file: source.name) }
    }
    var input = PickleInput(source, range)
    (heap, root) = try PickleMachine.run(&input)
    var places: [Range<Int>?] = []
    for storage in heap.storages {
      let place = zip.entries["\(stem)data/\(storage.key)"]
      if let place, place.count < storage.count * storage.elementSize {
        throw .storage(
          file: source.name, key: storage.key,
          reason: "has \(place.count) bytes for \(storage.count) elements of \(storage.elementSize)")
      }
      places.append(place)
    }
    storages = places
  }

  /// The form before PyTorch 1.6: pickles of a magic number, a version, the machine, the object and the keys
  /// of its storages, then the storages, each after its number of elements.
  private init(stream source: ByteSource) throws(PickleError) {
    var input = PickleInput(source, 0..<source.count)
    let magic: [UInt8] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19]
    let (first, number) = try PickleMachine.run(&input)
    guard case .wideInteger(magic) = first[number] else { throw .notACheckpoint(file: source.name) }
    let (second, version) = try PickleMachine.run(&input)
    guard case .integer(1001) = second[version] else { throw .notACheckpoint(file: source.name) }
    let (third, system) = try PickleMachine.run(&input)
    if case .dictionary(let members) = third[system] {
      for place in stride(from: 0, to: members.count - 1, by: 2) {
        if case .string("little_endian") = third[members[place]],
          case .bool(false) = third[members[place + 1]]
        {
          throw .bigEndian(file: source.name)
        }
      }
    }
    (heap, root) = try PickleMachine.run(&input)
    let (fifth, keys) = try PickleMachine.run(&input)
    guard case .list(let keys) = fifth[keys] else { throw input.damaged("the list of storages is missing") }
    var places = [Range<Int>?](repeating: nil, count: heap.storages.count)
    for key in keys {
      guard case .string(let key) = fifth[key], let index = heap.storageOfKey[key], places[index] == nil
      else {
        throw input.damaged("the list of storages does not fit the tensors")
      }
      let storage = heap.storages[index]
      let count = try input.integer(Int64.self)
      guard count == storage.count else {
        throw .storage(
          file: source.name, key: key, reason: "has \(count) elements where \(storage.count) are announced")
      }
      let start = input.position
      try input.skip(storage.count * storage.elementSize)
      places[index] = start..<input.position
    }
    storages = places
  }
}
