public import TensorCore

/// Constant input planes that tell a transformer with rotary attention where it is: x, y and t, each with the
/// values `(2 i + 1) / n - 1` along its axis, concatenated behind the channels.
public enum CoordinatePlanes {
  /// `[B, C, F, H, W]` to `[B, C + 3, F, H, W]`.
  public static func appended(to x: Tensor) -> Tensor {
    let (batch, frames, height, width) = (x.shape[0], x.shape[2], x.shape[3], x.shape[4])
    func axis(_ count: Int, _ shape: [Int]) -> Tensor {
      Tensor((0..<count).map { Float(2 * $0 + 1) / Float(count) - 1 }, shape: shape)
        .expanded([batch, 1, frames, height, width])
    }
    return Tensor.concatenated(
      [
        x, axis(width, [1, 1, 1, 1, width]), axis(height, [1, 1, 1, height, 1]),
        axis(frames, [1, 1, frames, 1, 1]),
      ], axis: 1)
  }
}
