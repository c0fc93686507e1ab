import DiffusionLayers
import DiffusionModels
import TensorCore

/// Parts of networks in random weights.
enum Blocks {
  static func cases() throws -> [Case] {
    [try transformer(layers: 1), try transformer(layers: 2), autoencoder()]
  }

  /// Wan2.1-1.3B at 17 frames 256x256 with so few blocks; one block is the difference of the two.
  private static func transformer(layers: Int) throws -> Case {
    let config = try WanConfig(
      .object([
        "_class_name": .string("WanTransformer3DModel"),
        "patch_size": .array([.integer(1), .integer(2), .integer(2)]), "num_attention_heads": .integer(12),
        "attention_head_dim": .integer(128), "in_channels": .integer(16), "out_channels": .integer(16),
        "text_dim": .integer(4096), "freq_dim": .integer(256), "ffn_dim": .integer(8960),
        "num_layers": .integer(layers), "cross_attn_norm": .bool(true),
        "qk_norm": .string("rms_norm_across_heads"),
      ]), file: "Benchmarks")
    let model = try WanTransformer(Weights(RandomSource()), config)
    var random = TorchRandom(seed: 1)
    let (latents, text) = (random.randn([1, 16, 5, 32, 32]), random.randn([1, 512, 4096]))
    return Case("block", "Wan transformer of \(layers), 1280 + 512 tokens") {
      _ = try model(latents, timesteps: [700], context: text, RunContext.plain)
    }
  }

  /// A residual block of AutoencoderKLWan's last level, one frame 256x256.
  private static func autoencoder() -> Case {
    var random = TorchRandom(seed: 2)
    let frames = (0..<3).map { _ in random.randn([1, 256, 256, 96]) }
    let gamma = Tensor(repeating: 1, shape: [96])
    let kernels = (0..<2).map { _ in
      CausalConvolutionKernel(weight: random.randn([96, 96, 3, 3, 3]) * 0.02, bias: random.randn([96]))
    }
    return Case("block", "AutoencoderKLWan residual, 96 channels, one frame 256x256") {
      // The two frames before are in the block's memory, normalised already.
      let first = Tensor.causalConvolution(
        Array(frames[..<2]) + [Tensor.lengthNorm(frames[2], weight: gamma, activation: .silu)],
        kernel: kernels[0], padding: ConvolutionPadding(1))
      _ = Tensor.causalConvolution(
        Array(frames[..<2]) + [Tensor.lengthNorm(first, weight: gamma, activation: .silu)],
        kernel: kernels[1],
        padding: ConvolutionPadding(1), adding: frames[2])
    }
  }
}

/// Any tensor that a model asks for, in small random numbers.
private struct RandomSource: WeightSource {
  let name = "random"
  var names: [String] { [] }

  func contains(_ tensor: String) -> Bool { true }
  func shape(of tensor: String) -> [Int]? { nil }

  func load(_ tensor: String, shape: [Int]) -> Tensor {
    var random = TorchRandom(seed: UInt64(tensor.utf8.reduce(5) { ($0 &* 31 &+ Int($1)) & 0xffff }))
    return random.randn(shape) * 0.02
  }
}
