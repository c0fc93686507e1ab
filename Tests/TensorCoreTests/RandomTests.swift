import DiffusionLayers
import TensorCore
import TestSupport
import Testing

/// `TorchRandom` against torch's CPU generator.
@Suite struct RandomTests {
  @Test func randnEqualsTorch() throws {
    let golden = try Fixture.safetensors("torch_random")
    var checked = 0
    for name in golden.names where name.hasPrefix("s") && !name.hasPrefix("sequence") && name.contains(".n") {
      let parts = name.dropFirst().split(separator: ".")
      let seed = try #require(UInt64(parts[0]))
      let count = try #require(Int(parts[1].dropFirst()))
      var random = TorchRandom(seed: seed)
      let difference = Difference(random.randn([count]), try golden[name])
      #expect(difference.relative < 1e-6, "\(name): \(difference)")
      checked += 1
    }
    #expect(checked == 45)
  }

  @Test(arguments: [(42, 5, 20), (42, 20, 5), (7, 16, 16), (7, 3, 3)])
  func sequences(_ seed: Int, _ first: Int, _ second: Int) throws {
    let golden = try Fixture.safetensors("torch_random")
    var random = TorchRandom(seed: UInt64(seed))
    let one = Difference(random.randn([first]), try golden["sequence.s\(seed).n\(first)"])
    #expect(one.relative < 1e-6, "\(one)")
    let two = Difference(random.randn([second]), try golden["sequence.s\(seed).n\(first).then.n\(second)"])
    #expect(two.relative < 1e-6, "\(two)")
  }

  @Test func shapeOfManyDimensions() throws {
    let golden = try Fixture.safetensors("torch_random")
    var random = TorchRandom(seed: 42)
    let values = random.randn([3, 8, 24, 24]).array()
    let head = Difference(
      Tensor(Array(values.prefix(64)), shape: [64]), try golden["s42.shape3x8x24x24.first64"])
    let tail = Difference(
      Tensor(Array(values.suffix(64)), shape: [64]), try golden["s42.shape3x8x24x24.last64"])
    #expect(head.relative < 1e-6 && tail.relative < 1e-6, "\(head) \(tail)")
  }
}
