import Glibc
import TensorCore

/// Starting noise of a video-to-video stream.
///
/// Noise belongs to a frame of the stream, not to a window, so that windows agree where they overlap. Every
/// frame mixes noise of its own with noise that all frames share (the mixed noise model of Ge et al.,
/// "Preserve Your Own Correlation", 2023): what is uncertain then comes out alike in neighbouring frames
/// instead of flickering. The share falls to nothing at strength 1, where the noise is the independent one
/// that models are trained on; models that were not tried with it share nothing at all.
package struct StreamNoise {
  let seed: UInt64

  /// The shared part of the variance.
  package static func sharedVariance(_ strength: Float) -> Float { 0.95 * (1 - powf(strength, 4)) }

  /// Noise `[1, C, keys.count, h, w]` for the frames of these numbers; `shape` is `[C, h, w]`.
  func frames(_ keys: [Int], shape: [Int], sharedVariance variance: Float) -> Tensor {
    let picture = [1, shape[0], 1] + shape[1...]
    let shared = draw(-1, picture) * variance.squareRoot()
    let own = (1 - variance).squareRoot()
    return Tensor.concatenated(
      keys.map { shared.adding(draw($0, picture), scaledBy: own) }, axis: 2)
  }

  private func draw(_ frame: Int, _ shape: [Int]) -> Tensor {
    var random = TorchRandom(seed: frameSeed(frame))
    return random.randn(shape)
  }

  /// A seed of its own for every frame (splitmix64 of seed and frame).
  private func frameSeed(_ frame: Int) -> UInt64 {
    var z = seed &* 0x9e37_79b9_7f4a_7c15 &+ UInt64(bitPattern: Int64(frame)) &+ 0x632b_e59b_d9b4_e019
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}
