extension Tensor {
  /// Two-dimensional convolution of pictures `[N, H, W, C]`: result
  /// `activation(conv(x) + bias (+ skip))` `[N, H', W', O]` with zero padding on all sides.
  ///
  /// - Parameters:
  ///   - kernel: the filters, packed for this CPU on first use.
  ///   - skip: added before the activation; it has the result's shape.
  public static func convolution(
    _ x: Tensor, kernel: ConvolutionKernel, stride: Int = 1, padding: Int,
    activation: ConvolutionActivation = .identity,
    adding skip: Tensor? = nil
  ) -> Tensor {
    precondition(
      x.rank == 4 && x.shape[3] == kernel.inputs,
      "convolution of \(x.shape) with a kernel for \(kernel.inputs) channels")
    x.requireNoTape("convolution")
    let (pictures, height, width) = (x.shape[0], x.shape[1], x.shape[2])
    let rows = (height + 2 * padding - kernel.height) / stride + 1
    let columns = (width + 2 * padding - kernel.width) / stride + 1
    let shape = [pictures, rows, columns, kernel.outputs]
    precondition(
      skip == nil || skip?.shape == shape, "skip \(skip?.shape ?? []) of a convolution to \(shape)")
    FlopCounter.add(
      2 * Double(shape.product) * Double(kernel.inputs) * Double(kernel.height) * Double(kernel.width))
    let source = x.contiguous()
    let residual = skip?.contiguous()
    let result = Tensor(uninitialized: shape)
    // Fixed bands of rows, so that one picture occupies all threads and the cut does not depend on their
    // number.
    let band = max(8, (rows + 3) / 4)
    let bands = (rows + band - 1) / band
    let pieces = (0..<bands).map { index in
      let first = index * band
      let last = min(rows, first + band)
      let top = first * stride - padding
      let bottom = (last - 1) * stride - padding + kernel.height
      return ConvolutionBand(
        firstInput: max(0, top), inputRows: min(height, bottom) - max(0, top), width: width,
        firstOutput: first,
        outputRows: last - first, outputWidth: columns, padTop: max(0, -top),
        padBottom: max(0, bottom - height),
        padSide: padding, stride: stride, addsSkip: skip != nil, activation: activation)
    }
    let plans = pieces.map { kernel.plan(for: $0) }
    parallelFor(pictures * bands) { task in
      let (picture, piece) = (task / bands, pieces[task % bands])
      let from = source.base + (picture * height + piece.firstInput) * width * kernel.inputs
      let at = (picture * rows + piece.firstOutput) * columns * kernel.outputs
      if let residual {
        (result.base + at).update(
          from: residual.base + at, count: piece.outputRows * columns * kernel.outputs)
      }
      plans[task % bands].run(from: from, to: result.base + at)
    }
    keepAlive(source, residual)
    return result
  }
}

/// What a convolution applies to its result.
public enum ConvolutionActivation: Sendable, Hashable {
  case identity, relu
}

/// A band of output rows of one picture and the input rows it needs.
struct ConvolutionBand: Sendable {
  var firstInput: Int
  var inputRows: Int
  var width: Int
  var firstOutput: Int
  var outputRows: Int
  var outputWidth: Int
  var padTop: Int
  var padBottom: Int
  var padSide: Int
  var stride: Int
  var addsSkip: Bool
  var activation: ConvolutionActivation
}
