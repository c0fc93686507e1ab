import DiffusionLayers
import DiffusionPipelines
import DiffusionTraining
import Glibc
import TensorCore
import TestSupport
import Testing

/// Folders of clips.
@Suite struct ClipDatasetTests {
  /// A folder that goes with its content.
  final class Folder {
    let path: String

    init() throws {
      var template = Array("/tmp/videolora-data-XXXXXX".utf8CString)
      path = try #require(
        template.withUnsafeMutableBufferPointer {
          $0.baseAddress.flatMap { mkdtemp($0) }.map { String(cString: $0) }
        })
    }

    deinit { Self.remove(path) }

    func write(_ name: String, _ text: String) throws { try write(name, Array(text.utf8)) }

    func write(_ name: String, _ bytes: [UInt8]) throws {
      if let slash = name.lastIndex(of: "/") { mkdir("\(path)/\(name[..<slash])", 0o755) }
      try AtomicFile.write(bytes, to: "\(path)/\(name)")
    }

    /// A clip file whose bytes count up from `first`.
    func clip(_ name: String, _ shape: [Int], first: Int = 0, labels: String? = nil) throws {
      var writer = SafetensorsWriter(metadata: labels.map { [("labels", $0)] } ?? [])
      writer.add(
        "frames", bytes: (0..<shape.reduce(1, *)).map { UInt8(truncatingIfNeeded: $0 + first) },
        dtype: .uint8,
        shape: shape)
      try writer.write(to: "\(path)/\(name)")
    }

    private static func remove(_ path: String) {
      if let names = folderEntries(path) {
        for name in names { remove("\(path)/\(name)") }
        rmdir(path)
      } else {
        unlink(path)
      }
    }
  }

  private func refusal(_ folder: Folder) -> String {
    switch Result(catching: { try ClipDataset(folder.path) }) {
    case .success(let dataset): "\(dataset.count) clips"
    case .failure(let error): "\(error)"
    }
  }

  @Test func allKindsInTheOrderOfNames() throws {
    let folder = try Folder()
    try folder.clip(
      "b.safetensors", [2, 3, 8, 10, 3],
      labels: #"[{"caption": ["disc", "flat"], "camera": "pan_left", "camera_amp": 0.5}, {"amplitude": 1}]"#)
    try folder.clip("a.safetensors", [4, 8, 10, 3], first: 7)
    try folder.write(
      "a.json", #"{"caption": "a walk", "class": "walk", "role": "motion", "amplitude": -0.25}"#)
    try folder.write("b.txt", "  a caption \n")
    let header = "YUV4MPEG2 W10 H8 F25:1 Ip A1:1 C444\n"
    let frame = Array("FRAME\n".utf8) + [UInt8](repeating: 128, count: 240)
    try folder.write("c.y4m", Array(header.utf8) + frame + frame)
    let picture = Frame(width: 10, height: 8, pixels: (0..<240).map { UInt8($0) })
    for index in [1, 0, 2] { try folder.write("d/000\(index).png", PNG.encode(picture)) }
    try folder.write("d.json", #"{"caption": "pictures"}"#)
    try folder.write("photo.png", PNG.encode(picture))
    try folder.write("notes.md", "not a clip")

    let data = try ClipDataset(folder.path)
    #expect(data.clips.map(\.name) == ["a", "b#0", "b#1", "c", "d", "photo"])
    #expect(data.clips.map(\.frames) == [4, 3, 3, 2, 3, 1])
    #expect(data.clips[0].label.className == "walk" && data.clips[0].label.amplitude == -0.25)
    // The text beside a file counts for its caption, the file's own labels for the rest.
    #expect(data.clips[1].label.caption == "a caption" && data.clips[1].label.cameraAmplitude == 0.5)
    #expect(data.clips[2].label.amplitude == 1 && data.clips[4].label.caption == "pictures")
    #expect(try data.frames(1)[1].pixels == (0..<240).map { UInt8(truncatingIfNeeded: 240 + $0) })
    #expect(try data.frames(2, 1..<3).count == 2)
    #expect(try data.frames(2, 1..<2)[0].pixels[0] == UInt8(truncatingIfNeeded: 4 * 240))
    #expect(try data.frames(3).count == 2)
    #expect(try data.frames(4)[2] == picture && data.frames(5)[0] == picture)
    #expect(throws: DatasetError.self) { try data.require(frames: 2) }
    #expect(throws: DatasetError.self) { try data.requireCaptions() }
  }

  @Test func foldersThatTheCommandLineWrites() throws {
    let picture = PNG.encode(Frame(width: 4, height: 4, pixels: [UInt8](repeating: 9, count: 48)))
    let one = try Folder()
    try one.write("0000.png", picture)
    try one.write("0001.png", picture)
    try one.write("labels.json", #"[{"caption": "both"}]"#)
    let single = try ClipDataset(one.path)
    #expect(single.count == 1 && single.clips[0].frames == 2 && single.clips[0].label.caption == "both")

    let many = try Folder()
    try many.write("clip_0000/0000.png", picture)
    try many.write("clip_0001/0000.png", picture)
    try many.write("labels.json", #"[{"caption": "x"}, {"caption": "y"}]"#)
    #expect(try ClipDataset(many.path).clips.map(\.label.caption) == ["x", "y"])
  }

  @Test func eachMistakeIsNamed() throws {
    let empty = try Folder()
    #expect(refusal(empty).contains("holds no clip"))
    #expect(throws: DatasetError.notAFolder(path: "/nonexistent")) { try ClipDataset("/nonexistent") }

    let sizes = try Folder()
    try sizes.clip("a.safetensors", [2, 8, 8, 3])
    try sizes.clip("b.safetensors", [2, 8, 16, 3])
    #expect(refusal(sizes).contains("8x8") && refusal(sizes).contains("b.safetensors' is 16x8"))
    #expect(try ClipDataset(sizes.path, sizes: .any).count == 2)

    for (labels, reason) in [
      ("[", "ends too early"), (#"[{"caption": 3}]"#, "text or a list"), ("[{}, {}]", "2 labels for 1 clips"),
      ("[7]", "entry 0"), (#"[{"amplitude": 4}]"#, "-1…1"), (#"[{"role": "hat"}]"#, "'hat'"),
      (#""text""#, "list of objects"),
    ] {
      let folder = try Folder()
      try folder.clip("a.safetensors", [2, 8, 8, 3], labels: labels)
      #expect(
        refusal(folder).contains(reason) && refusal(folder).contains("a.safetensors"), "\(refusal(folder))")
    }

    let cases: [(String, [UInt8], String)] = [
      ("a.safetensors", Array("nonsense".utf8), "a.safetensors"),
      ("a.y4m", Array("YUV4MPEG2 W8 H8\nFRAME\nxx".utf8), "cut off"),
      ("a.png", Array("nonsense".utf8), "no PNG"), ("a.jpg", [1], "converts"), ("a.mp4", [1], "converts"),
    ]
    for (name, bytes, reason) in cases {
      let folder = try Folder()
      try folder.write(name, bytes)
      #expect(refusal(folder).contains(reason) && refusal(folder).contains(name), "\(refusal(folder))")
    }

    let floats = try Folder()
    var writer = SafetensorsWriter()
    writer.add("frames", bytes: [UInt8](repeating: 0, count: 48), dtype: .float32, shape: [1, 2, 2, 3])
    try writer.write(to: floats.path + "/a.safetensors")
    #expect(refusal(floats).contains("uint8"))

    let same = try Folder()
    try same.clip("a.safetensors", [2, 8, 8, 3])
    try same.write("a.png", PNG.encode(Frame(width: 8, height: 8, pixels: [UInt8](repeating: 0, count: 192))))
    #expect(refusal(same).contains("two clips of one name"))

    let side = try Folder()
    try side.clip("a.safetensors", [2, 8, 8, 3])
    try side.write("a.txt", [0xff, 0xfe])
    #expect(refusal(side).contains("a.txt"))
    try side.write("a.txt", "good")
    try side.write("a.json", "[]")
    #expect(refusal(side).contains("a.json"))
  }

  @Test func aPictureOfAnotherSizeInAClipIsNamedWhenRead() throws {
    let folder = try Folder()
    for (index, width) in [8, 9].enumerated() {
      try folder.write(
        "d/\(index).png",
        PNG.encode(Frame(width: width, height: 8, pixels: [UInt8](repeating: 0, count: 24 * width))))
    }
    let data = try ClipDataset(folder.path)
    #expect(throws: DatasetError.self) { try data.frames(0) }
  }
}
