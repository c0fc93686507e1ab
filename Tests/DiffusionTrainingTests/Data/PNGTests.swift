import DiffusionLayers
import DiffusionPipelines
import DiffusionTraining
import TestSupport
import Testing

/// Reading PNG pictures.
@Suite struct PNGTests {
  private static let cases = [
    "rgb8", "rgb8_stored", "rgb8_fixed", "rgb8_huffman", "rgba8", "rgb16", "greyalpha16", "grey1", "grey2",
    "grey4", "grey8", "palette1", "palette2", "palette4", "palette8",
  ]

  @Test(arguments: cases) func kinds(_ name: String) throws {
    let source = try ByteSource.open(Fixture.path("png/\(name).png"))
    let frame = try PNGReader.read(source)
    #expect(frame.width == 37 && frame.height == 23)
    let size = try PNGReader.size(source)
    #expect(size.width == 37 && size.height == 23)
    let expected = try Fixture.safetensors("png/expected").bytes(name)
    #expect(frame.pixels == expected)
  }

  @Test func ownPicturesComeBack() throws {
    let frame = CameraAugmentationTests.photo(4, width: 301, height: 77)
    #expect(try PNGReader.read(.memory(name: "f", bytes: PNG.encode(frame))) == frame)
  }

  @Test func refusals() throws {
    func refusal(_ bytes: [UInt8]) -> String {
      switch Result(catching: { try PNGReader.read(.memory(name: "f.png", bytes: bytes)) }) {
      case .success: "read"
      case .failure(let error): "\(error)"
      }
    }
    let source = try ByteSource.open(Fixture.path("png/rgb8.png"))
    let good = try source.bytes(0..<source.count)
    let interlaced = try ByteSource.open(Fixture.path("png/interlaced.png"))
    #expect(refusal(try interlaced.bytes(0..<interlaced.count)).contains("interlaced"))
    #expect(refusal([]).contains("no PNG"))
    #expect(refusal(Array(good.dropLast(200))).contains("damaged"))
    var huge = good
    // 16384 x 16384 claimed by a file of a few bytes: refused before anything of that size is allocated.
    huge.replaceSubrange(16..<24, with: [0, 0, 0x40, 0, 0, 0, 0x40, 0])
    #expect(refusal(huge).contains("too short"))
    huge.replaceSubrange(16..<20, with: [0x7f, 0, 0, 0])
    #expect(refusal(huge).contains("1…16384"))
    // Every damaged byte and every length is an error or a picture, never a trap.
    var random = SampleRandom(seed: 1, index: 0)
    for _ in 0..<2000 {
      var bytes = good
      for _ in 0...random.below(3) { bytes[random.below(bytes.count)] = UInt8(random.below(256)) }
      if random.below(4) == 0 { bytes.removeLast(random.below(bytes.count)) }
      _ = refusal(bytes)
    }
  }
}
