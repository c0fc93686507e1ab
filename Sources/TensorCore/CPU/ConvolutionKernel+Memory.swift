import CKernels

extension ConvolutionKernel {
  /// Bytes that the packed filters of a convolution take, those of one over time (`CausalConvolutionKernel`) too.
  ///
  /// - Parameters:
  ///   - shape: `[out, in, height, width]` or `[out, in, frames, height, width]`.
  ///   - format: of the numbers in the file.
  ///   - stride: as in `init(weight:bias:stride:)`.
  public static func bytes(_ shape: [Int], as format: DType, stride: Int = 1) -> Int {
    precondition(shape.count == 4 || shape.count == 5, "filters of shape \(shape)")
    let (outputs, inputs) = (shape[0], shape[1])
    let taps = shape.count == 5 ? shape[2] : 1
    guard stride == 1,
      WinogradFilters.suits(
        inputs: inputs, outputs: outputs, height: shape[shape.count - 2], width: shape[shape.count - 1],
        taps: taps)
    else {
      // oneDNN's layouts pad few channels to a multiple of 8.
      return (outputs + 7) / 8 * 8 * shape[1...].reduce(DType.float32.byteSize, *)
    }
    return WinogradFilters.bytes(
      inputs: inputs, outputs: outputs, taps: taps, format: shape.count == 4 ? format : .float32)
  }
}

extension WinogradFilters {
  /// Bytes that filters of this extent take, packed and where they are small transformed beside that.
  fileprivate static func bytes(inputs: Int, outputs: Int, taps: Int, format: DType) -> Int {
    let panels = (outputs + panel - 1) / panel
    let plain = panels * taps * ((inputs + 7) / 8 * 8 * 9 * panel)
    let transformed = panels * taps * Int(ck_winograd_filters(inputs))
    if transformed <= keptFloats { return (plain + transformed) * DType.float32.byteSize }
    return plain * (taps == 1 && (format == .float16 || format == .bfloat16) ? format.byteSize : 4)
  }
}
