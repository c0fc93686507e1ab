import CKernels

extension Tensor {
  /// Every row of the last dimension brought to length `sqrt(C)` and scaled by `weight` `[C]`, then
  /// `activation`: `x / max(|x|, 1e-12) * sqrt(C) * weight` (torch's `normalize` over channels; Wan's
  /// autoencoder calls it RMS norm).
  public static func lengthNorm(_ x: Tensor, weight: Tensor, activation: Activation = .identity) -> Tensor {
    let width = x.shape.last ?? 1
    precondition(weight.shape == [width], "lengthNorm weight \(weight.shape) of \(x.shape)")
    x.requireNoTape("lengthNorm")
    let (source, factors) = (x.contiguous(), weight.contiguous())
    let result = Tensor(uninitialized: x.shape)
    let length = Float(width).squareRoot()
    forRows(x.count / max(1, width), width: width) { first, rows in
      for row in first..<first + rows {
        let (from, to) = (source.base + row * width, result.base + row * width)
        let inverse = length / max(kernels.sum_squares(from, 0, width).squareRoot(), 1e-12)
        kernels.normalize(to, from, 0, inverse, factors.base, nil, width)
      }
      activation.apply(result.base + first * width, rows * width)
    }
    keepAlive(source, factors)
    return result
  }
}
