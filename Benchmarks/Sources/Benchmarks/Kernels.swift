import TensorCore

/// The operations of the denoisers and autoencoders, in the shapes of Wan2.1-1.3B at 17 frames 256x256 and of the
/// tiny autoencoder at 256x144.
enum Kernels {
  static func cases() -> [Case] { products() + attentions() + convolutions() + passes() }

  private static func random(_ shape: [Int]) -> Tensor {
    var source = TorchRandom(seed: UInt64(shape.reduce(7, +)))
    return source.randn(shape)
  }

  /// Rows by inputs by outputs.
  private static func products() -> [Case] {
    [(1280, 1536, 1536), (1280, 1536, 4608), (1280, 1536, 8960), (1280, 8960, 1536), (512, 4096, 1536)].map {
      rows, inputs, outputs in
      let (x, weight) = (random([rows, inputs]), random([outputs, inputs]) * 0.02)
      let bias = random([outputs])
      return Case("gemm", "f32 \(rows)x\(inputs)x\(outputs)") {
        _ = Tensor.linear(x, weight: weight, bias: bias)
      }
    }
  }

  private static func attentions() -> [Case] {
    [1280, 512].map { keys in
      let query = random([1, 1280, 12, 128])
      let (key, value) = (random([1, keys, 12, 128]), random([1, keys, 12, 128]))
      return Case("attention", "12 heads, 1280 x \(keys) x 128") { _ = Tensor.attention(query, key, value) }
    }
  }

  private static func convolutions() -> [Case] {
    let pictures = [("taef2", 64, 144, 256), ("taef2", 64, 72, 128), ("taef2", 64, 18, 32)].map {
      (name: String, channels: Int, height: Int, width: Int) -> Case in
      let x = random([1, height, width, channels])
      let kernel = ConvolutionKernel(
        weight: random([channels, channels, 3, 3]) * 0.05, bias: random([channels]))
      return Case("convolution", "\(name) 3x3, \(channels) channels, \(width)x\(height)") {
        _ = Tensor.convolution(x, kernel: kernel, padding: 1, activation: .relu)
      }
    }
    let clips = [(96, 256), (192, 128), (384, 64), (384, 32)].map { (channels: Int, side: Int) -> Case in
      let window = (0..<3).map { _ in random([1, side, side, channels]) }
      let kernel = CausalConvolutionKernel(
        weight: random([channels, channels, 3, 3, 3]) * 0.02, bias: random([channels]))
      return Case("convolution", "wan 3x3x3, \(channels) channels, \(side)x\(side), one frame") {
        _ = Tensor.causalConvolution(window, kernel: kernel, padding: ConvolutionPadding(1))
      }
    }
    return pictures + clips
  }

  /// Bound by memory: what has to be read and written once.
  private static func passes() -> [Case] {
    let tokens = random([1, 1280, 1536])
    let (scale, shift, weight) = (random([1, 1, 1536]), random([1, 1, 1536]), random([1536]))
    let picture = random([1, 256, 256, 96])
    let channels = random([96])
    let bytes = { (x: Tensor) in 2 * 4 * x.count }
    return [
      Case("norm", "layer norm with modulation, 1280 x 1536", .memory(bytes: bytes(tokens))) {
        _ = Tensor.layerNormModulated(tokens, scale: scale, shift: shift, eps: 1e-6)
      },
      Case("norm", "RMS norm, 1280 x 1536", .memory(bytes: bytes(tokens))) {
        _ = Tensor.rmsNorm(tokens, weight: weight, eps: 1e-6)
      },
      Case("norm", "length norm and SiLU, 96 channels, 256x256", .memory(bytes: bytes(picture))) {
        _ = Tensor.lengthNorm(picture, weight: channels, activation: .silu)
      },
      Case("norm", "group norm, 96 channels in 32 groups, 256x256", .memory(bytes: bytes(picture))) {
        _ = Tensor.groupNorm(picture, groups: 32, weight: channels, bias: channels, eps: 1e-6)
      },
      Case(
        "softmax", "rows of 1280 scores, 12 heads (attention of width 2)",
        .memory(bytes: 4 * 12 * 1280 * 1280)
      ) {
        let narrow = tokens.reshaped([1, 1280, 768, 2]).narrow(2, from: 0, length: 12).contiguous()
        _ = Tensor.attention(narrow, narrow, narrow)
      },
    ]
  }
}
