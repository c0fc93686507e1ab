// The zip format (PKWARE APPNOTE.TXT), as far as torch.save writes it: stored entries, with ZIP64 for large
// files.

/// The files in a zip archive, found from its central directory. Entries must be stored: nothing is inflated.
struct ZipDirectory {
  /// Where the bytes of each file lie in the archive.
  private(set) var entries: [String: Range<Int>] = [:]

  private let source: ByteSource

  init(_ source: ByteSource) throws(PickleError) {
    self.source = source
    let (count, range) = try Self.directory(source)
    guard count <= PickleLimits.entries else {
      throw .limit(file: source.name, what: "files in the archive", limit: PickleLimits.entries)
    }
    guard range.count <= PickleLimits.directory else {
      throw .limit(file: source.name, what: "bytes of archive directory", limit: PickleLimits.directory)
    }
    var input = PickleInput(source, range)
    for _ in 0..<count { try readEntry(&input, directoryStart: range.lowerBound) }
  }

  /// One record of the central directory.
  private mutating func readEntry(_ input: inout PickleInput, directoryStart: Int) throws(PickleError) {
    guard try input.integer(UInt32.self) == 0x0201_4b50 else { throw broken("its directory is damaged") }
    try input.skip(4)
    let flags = try input.integer(UInt16.self)
    let method = try input.integer(UInt16.self)
    try input.skip(8)
    var packed = UInt64(try input.integer(UInt32.self))
    var size = UInt64(try input.integer(UInt32.self))
    let nameLength = UInt64(try input.integer(UInt16.self))
    let extraLength = Int(try input.integer(UInt16.self))
    let commentLength = Int(try input.integer(UInt16.self))
    try input.skip(8)
    var header = UInt64(try input.integer(UInt32.self))
    guard let name = String(validating: try input.bytes(nameLength), as: UTF8.self) else {
      throw broken("the name of a file in it is not UTF-8")
    }
    var extra = extraLength
    while extra >= 4 {
      let tag = try input.integer(UInt16.self)
      let length = Int(try input.integer(UInt16.self))
      guard length <= extra - 4 else { throw broken("its directory is damaged") }
      extra -= 4 + length
      var left = length
      if tag == 1 {  // ZIP64: only what did not fit above, in this order
        if size == 0xffff_ffff, left >= 8 { (size, left) = (try input.integer(UInt64.self), left - 8) }
        if packed == 0xffff_ffff, left >= 8 { (packed, left) = (try input.integer(UInt64.self), left - 8) }
        if header == 0xffff_ffff, left >= 8 { (header, left) = (try input.integer(UInt64.self), left - 8) }
      }
      try input.skip(left)
    }
    try input.skip(extra + commentLength)
    guard flags & 1 == 0 else { throw broken("'\(name.prefix(100))' is encrypted") }
    guard method == 0, packed == size else {
      throw broken("'\(name.prefix(100))' is compressed, and torch.save compresses nothing")
    }
    guard size <= UInt64(directoryStart), header <= UInt64(directoryStart) else {
      throw broken("'\(name.prefix(100))' lies outside of the file")
    }
    let range = try data(name, header: Int(header), size: Int(size), limit: directoryStart)
    guard entries.updateValue(range, forKey: name) == nil else {
      throw broken("it holds '\(name.prefix(100))' twice")
    }
  }

  /// The place of a file's bytes, behind its local header.
  private func data(_ name: String, header: Int, size: Int, limit: Int) throws(PickleError) -> Range<Int> {
    var local = PickleInput(source, header..<limit, bufferSize: 64)
    guard try local.integer(UInt32.self) == 0x0403_4b50 else {
      throw broken("'\(name.prefix(100))' is not where its directory says")
    }
    try local.skip(22)
    let skipped = Int(try local.integer(UInt16.self)) + Int(try local.integer(UInt16.self))
    try local.skip(skipped)
    guard size <= local.remaining else { throw broken("'\(name.prefix(100))' lies outside of the file") }
    return local.position..<(local.position + size)
  }

  /// Number of entries and place of the central directory, from the record at the end of the file.
  private static func directory(_ source: ByteSource) throws(PickleError) -> (Int, Range<Int>) {
    let tailStart = max(0, source.count - 22 - 0xffff)
    let tail: [UInt8]
    do { tail = try source.bytes(tailStart..<source.count) } catch { throw .file(error) }
    let signature: [UInt8] = [0x50, 0x4b, 5, 6]
    func broken(_ reason: String) -> PickleError { .archive(file: source.name, reason: reason) }
    guard
      let at = (0..<max(0, tail.count - 21)).last(where: { at in
        tail[at] == 0x50 && tail[at..<(at + 4)].elementsEqual(signature)
          && at + 22 + Int(tail[at + 20]) + Int(tail[at + 21]) << 8 == tail.count
      })
    else { throw broken("its end is missing, the file is cut off") }
    let end = tailStart + at
    var input = PickleInput(source, end..<source.count, bufferSize: 64)
    try input.skip(10)
    var count = UInt64(try input.integer(UInt16.self))
    var size = UInt64(try input.integer(UInt32.self))
    var start = UInt64(try input.integer(UInt32.self))
    // The ZIP64 record, where its locator stands right before.
    if end >= 20 {
      var locator = PickleInput(source, (end - 20)..<end, bufferSize: 64)
      if try locator.integer(UInt32.self) == 0x0706_4b50 {
        try locator.skip(4)
        let place = try locator.integer(UInt64.self)
        guard place <= UInt64(end) else { throw broken("its end is damaged") }
        var record = PickleInput(source, Int(place)..<end, bufferSize: 64)
        guard try record.integer(UInt32.self) == 0x0606_4b50 else { throw broken("its end is damaged") }
        try record.skip(28)
        count = try record.integer(UInt64.self)
        size = try record.integer(UInt64.self)
        start = try record.integer(UInt64.self)
      }
    }
    // 46 bytes are the least that an entry takes.
    guard start <= UInt64(end), size <= UInt64(end) - start, count <= size / 46 else {
      throw broken("its directory lies outside of the file")
    }
    return (Int(count), Int(start)..<Int(start + size))
  }

  private func broken(_ reason: String) -> PickleError { .archive(file: source.name, reason: reason) }
}
