import DiffusionLayers

extension FuzzTarget {
  /// A file of torch.save. Bytes that are no archive are read a second time as the pickle inside of one, with
  /// eight storages beside it, so that mutations reach the pickle without breaking the archive.
  static let pickle = FuzzTarget(
    "pickle",
    words: texts(
      "ctorch._utils\n_rebuild_tensor_v2\n", "ctorch._utils\n_rebuild_tensor_v3\n",
      "ctorch._utils\n_rebuild_parameter\n", "ctorch._tensor\n_rebuild_from_type_v2\n",
      "ctorch\nFloatStorage\n",
      "ctorch\nHalfStorage\n", "ctorch\nLongStorage\n", "ctorch.storage\nUntypedStorage\n",
      "ctorch\nbfloat16\n",
      "ctorch\nSize\n", "ccollections\nOrderedDict\n", "cos\nsystem\n", "X\u{7}\0\0\0storage",
      "X\u{1}\0\0\00",
      "X\u{1}\0\0\01", "X\u{a}\0\0\0state_dict", "X\u{6}\0\0\0module", "X\u{3}\0\0\0cpu", "Q", "R", "b", "(",
      ")", "t",
      "}", "]", "u", "e", "s", "a", "h\0", "q\0", "h\u{1}", "q\u{1}", "N", "K\0", "K\u{1}", "K\u{4}",
      "M\u{e8}\u{3}", "2", "0", "1", ".", "d", "l", "I01\n", "F1.5\n", "S'x'\n", "Vx\n", "p0\n", "g0\n")
      + [
        [0x80, 2], [0x85], [0x86], [0x87], [0x88], [0x89], [0x94], [0x93], [0x81], [0x8f], [0x90],
        [0x8a, 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], [0x8b, 4, 0, 0, 0, 0, 0, 0, 0x40],
        [0x8d, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], [0x50, 0x4b, 1, 2], [0x50, 0x4b, 5, 6],
      ]
  ) { bytes in
    do {
      try importAndCheck(bytes)
    } catch let error as PickleError {
      guard !bytes.starts(with: [0x50, 0x4b]) else { throw error }
      try importAndCheck(archive(bytes))
    }
  }

  private static func importAndCheck(_ bytes: [UInt8]) throws {
    let checkpoint = try TorchCheckpoint(source: .memory(name: "input", bytes: bytes))
    let path = Scratch.folder + "/out.safetensors"
    try checkpoint.write(to: path)
    let file = try SafetensorsFile(path: path)
    try require(file.names.count == checkpoint.entries.count, "tensors are missing in the result")
    var total = 0
    for entry in checkpoint.entries {
      guard let written = file.entries[entry.name] else { throw FuzzFailure("'\(entry.name)' is missing") }
      try require(
        written.dtype == entry.dtype && written.shape == entry.shape, "'\(entry.name)' became another tensor")
      total += written.range.count
    }
    try require(total == checkpoint.byteCount, "the result has \(total) bytes of data")
  }

  /// A zip archive as torch.save lays it out around a pickle.
  private static func archive(_ pickle: [UInt8]) -> [UInt8] {
    let storage = (0..<64).map { UInt8($0) }
    let files = [("a/data.pkl", pickle)] + (0..<8).map { ("a/data/\($0)", storage) }
    func number(_ value: Int, _ width: Int) -> [UInt8] { Array(littleEndian(value)[..<width]) }
    var bytes: [UInt8] = []
    var directory: [UInt8] = []
    for (name, content) in files {
      let common =
        number(0, 2) + number(0, 2) + number(0, 4) + number(0, 4) + number(content.count, 4)
        + number(content.count, 4) + number(name.utf8.count, 2) + number(0, 2)
      directory += [0x50, 0x4b, 1, 2, 0, 0, 0, 0] + common + number(0, 6) + number(0, 4)
      directory += number(bytes.count, 4) + Array(name.utf8)
      bytes += [0x50, 0x4b, 3, 4, 0, 0] + common + Array(name.utf8) + content
    }
    let start = bytes.count
    return bytes + directory + [0x50, 0x4b, 5, 6, 0, 0, 0, 0] + number(files.count, 2)
      + number(files.count, 2)
      + number(directory.count, 4) + number(start, 4) + number(0, 2)
  }
}
