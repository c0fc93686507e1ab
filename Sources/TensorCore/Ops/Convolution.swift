extension Tensor {
  /// Two-dimensional convolution of pictures `[N, H, W, C]`: result
  /// `activation(conv(x) + bias (+ skip))` `[N, H', W', O]` with zero padding.
  ///
  /// - Parameters:
  ///   - kernel: the filters, packed for this CPU on first use.
  ///   - padding: zeros around the pictures.
  ///   - skip: added before the activation; it has the result's shape.
  ///   - cancellation: what has not been begun when it is cancelled is left out; the caller then drops the
  ///     result.
  public static func convolution(
    _ x: Tensor, kernel: ConvolutionKernel, stride: Int = 1, padding: ConvolutionPadding,
    activation: ConvolutionActivation = .identity, adding skip: Tensor? = nil,
    cancellation: Cancellation? = nil
  ) -> Tensor {
    precondition(
      x.rank == 4 && x.shape[3] == kernel.inputs,
      "convolution of \(x.shape) with a kernel for \(kernel.inputs) channels")
    if x.isRecorded || skip?.isRecorded == true {
      return convolutionRecorded(
        x, kernel: kernel, stride: stride, padding: padding, activation: activation, adding: skip)
    }
    let cut = ConvolutionCut(height: x.shape[1], width: x.shape[2], kernel, stride, padding)
    let pictures = x.shape[0]
    let shape = [pictures, cut.rows, cut.columns, kernel.outputs]
    precondition(
      skip == nil || skip?.shape == shape, "skip \(skip?.shape ?? []) of a convolution to \(shape)")
    FlopCounter.add(cut.operations * Double(pictures))
    let source = x.contiguous()
    let residual = skip?.contiguous()
    let result = Tensor(uninitialized: shape)
    if stride == 1, let filters = kernel.winograd, filters.suits(rows: cut.rows, columns: cut.columns) {
      filters.run(
        [source], scale: 1, top: padding.top, left: padding.left, activation: activation, adding: residual,
        result: result, cancellation: cancellation)
      return result
    }
    let bands = cut.bands(addsSkip: skip != nil, activation)
    let plans = bands.map { kernel.plan(for: $0) }
    parallelFor(pictures * bands.count) { task in
      if cancellation?.isCancelled == true { return }
      let (picture, band) = (task / bands.count, bands[task % bands.count])
      let from = source.base + picture * cut.inputFloats + band.firstInput * band.width * kernel.inputs
      let at = picture * cut.outputFloats + band.firstOutput * cut.columns * kernel.outputs
      if let residual {
        (result.base + at).update(
          from: residual.base + at, count: band.outputRows * cut.columns * kernel.outputs)
      }
      plans[task % bands.count].run(from: from, to: result.base + at)
    }
    keepAlive(source, residual)
    return result
  }

  /// The same with `padding` zeros on all sides.
  public static func convolution(
    _ x: Tensor, kernel: ConvolutionKernel, stride: Int = 1, padding: Int,
    activation: ConvolutionActivation = .identity, adding skip: Tensor? = nil,
    cancellation: Cancellation? = nil
  ) -> Tensor {
    convolution(
      x, kernel: kernel, stride: stride, padding: ConvolutionPadding(padding), activation: activation,
      adding: skip, cancellation: cancellation)
  }

  /// `convolution(x.upsampledNearest(), …)` with 3 by 3 filters and one row or column of zeros on each side.
  /// The larger pictures are not made where the filters work without them.
  public static func upsampledConvolution(
    _ x: Tensor, kernel: ConvolutionKernel, cancellation: Cancellation? = nil
  ) -> Tensor {
    precondition(
      x.rank == 4 && x.shape[3] == kernel.inputs && kernel.height == 3 && kernel.width == 3,
      "convolution of \(x.shape) with \(kernel.height)x\(kernel.width) filters for \(kernel.inputs) channels")
    let (rows, columns) = (2 * x.shape[1], 2 * x.shape[2])
    guard !x.isRecorded, let filters = kernel.winograd, filters.suits(rows: rows, columns: columns) else {
      return convolution(x.upsampledNearest(), kernel: kernel, padding: 1, cancellation: cancellation)
    }
    let cut = ConvolutionCut(height: rows, width: columns, kernel, 1, ConvolutionPadding(1))
    FlopCounter.add(cut.operations * Double(x.shape[0]))
    let result = Tensor(uninitialized: [x.shape[0], rows, columns, kernel.outputs])
    filters.run(
      [x.contiguous()], scale: 2, top: 1, left: 1, activation: .identity, adding: nil, result: result,
      cancellation: cancellation)
    return result
  }
}

/// What a convolution applies to its result.
public enum ConvolutionActivation: Sendable, Hashable {
  case identity, relu
}

/// Zeros around a picture.
public struct ConvolutionPadding: Sendable, Hashable {
  public var top: Int
  public var bottom: Int
  public var left: Int
  public var right: Int

  /// The same number on all sides.
  public init(_ all: Int) { self.init(top: all, bottom: all, left: all, right: all) }

  public init(top: Int, bottom: Int, left: Int, right: Int) {
    self.top = top
    self.bottom = bottom
    self.left = left
    self.right = right
  }
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
  var padLeft: Int
  var padRight: Int
  var stride: Int
  var addsSkip: Bool
  var activation: ConvolutionActivation
}

/// How the convolution of a picture is cut into bands: by its shape alone, so that the cut does not depend on
/// the number of threads.
struct ConvolutionCut {
  /// Extent of the result.
  let rows: Int
  let columns: Int
  private let height: Int
  private let width: Int
  private let kernel: ConvolutionKernel
  private let stride: Int
  private let padding: ConvolutionPadding

  /// Rows of a band: few enough that its inputs and results stay in the caches between the frames of a window
  /// and that one picture occupies many threads.
  private static let bandRows = 8

  init(
    height: Int, width: Int, _ kernel: ConvolutionKernel, _ stride: Int, _ padding: ConvolutionPadding
  ) {
    self.height = height
    self.width = width
    self.kernel = kernel
    self.stride = stride
    self.padding = padding
    rows = (height + padding.top + padding.bottom - kernel.height) / stride + 1
    columns = (width + padding.left + padding.right - kernel.width) / stride + 1
  }

  /// Floats of one picture.
  var inputFloats: Int { height * width * kernel.inputs }
  var outputFloats: Int { rows * columns * kernel.outputs }

  /// Arithmetic of one picture, 2 per multiply-add.
  var operations: Double {
    2 * Double(outputFloats) * Double(kernel.inputs) * Double(kernel.height) * Double(kernel.width)
  }

  func bands(addsSkip: Bool, _ activation: ConvolutionActivation) -> [ConvolutionBand] {
    Swift.stride(from: 0, to: rows, by: Self.bandRows).map { first in
      let last = min(rows, first + Self.bandRows)
      let top = first * stride - padding.top
      let bottom = (last - 1) * stride - padding.top + kernel.height
      let firstInput = max(0, top)
      return ConvolutionBand(
        firstInput: firstInput, inputRows: min(height, bottom) - firstInput, width: width, firstOutput: first,
        outputRows: last - first, outputWidth: columns, padTop: max(0, -top),
        padBottom: max(0, bottom - height), padLeft: padding.left, padRight: padding.right, stride: stride,
        addsSkip: addsSkip, activation: activation)
    }
  }
}
