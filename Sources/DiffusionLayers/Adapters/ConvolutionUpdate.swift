import TensorCore

/// What one adapter does to a convolution: a low-rank pair is a convolution to `rank` channels and a linear layer behind it
/// (kohya's LoCon), a whole change another convolution.
struct ConvolutionUpdate: Sendable {
  private let update: LayerUpdate
  /// The filters of each mode of composition, made when they are first used.
  private let filters: [ComposeMode: Deferred<ConvolutionKernel>]

  /// - Parameter extents: of the layer's weight, `[out, in, height, width]`.
  init(_ update: LayerUpdate, extents: [Int]) {
    self.update = update
    var filters: [ComposeMode: Deferred<ConvolutionKernel>] = [:]
    for mode in ComposeMode.allCases {
      filters[mode] = Deferred {
        switch update.composed(mode) {
        case .lowRank(let pair):
          ConvolutionKernel(weight: pair.down.reshaped([pair.rank] + extents[1...]), bias: nil)
        case .full(let change): ConvolutionKernel(weight: change.reshaped(extents), bias: nil)
        case nil: ConvolutionKernel(weight: Tensor.zeros([1] + extents[1...]), bias: nil)
        }
      }
    }
    self.filters = filters
  }

  /// `result + strength * (conv(x, dW) + db)` for pictures `x` `[N, H, W, C]`, frame by frame.
  func add(to result: Tensor, _ x: Tensor, stride: Int, padding: Int, _ run: RunContext) -> Tensor {
    let strengths = factors(x.shape[0], run)
    if strengths.allSatisfy({ $0 == 0 }) { return result }
    // [N, 1, 1, 1]
    let factor = Tensor(strengths, shape: [strengths.count, 1, 1, 1])
    var sum = result
    let change = update.composed(run.compose)
    if let change, let kernel = filters[run.compose]?.value {
      let hidden = Tensor.convolution(
        x, kernel: kernel, stride: stride, padding: padding, cancellation: run.cancellation)
      switch change {
      case .lowRank(let pair):
        sum = Tensor.linear(hidden * (factor * pair.scale), weight: Weight(pair.up), residual: sum)
      case .full: sum = sum + hidden * factor
      }
    }
    guard let bias = update.bias else { return sum }
    return sum + factor * bias.reshaped([1, 1, 1, bias.count])
  }

  /// The strength of each picture.
  private func factors(_ pictures: Int, _ run: RunContext) -> [Float] {
    guard case .frames = run.axis, let frames = run.animatedStrength(of: update.adapterIndex) else {
      return [Float](repeating: run.meanStrength(of: update.adapterIndex), count: pictures)
    }
    precondition(pictures % frames.count == 0, "\(frames.count) strengths for \(pictures) frames")
    return (0..<pictures).map { frames[$0 % frames.count] }
  }
}
