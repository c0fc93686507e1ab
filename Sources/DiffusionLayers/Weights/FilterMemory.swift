import Synchronization
import TensorCore

/// Filters of convolutions in memory: as they were read until a model asks for them, packed from then on.
final class FilterMemory: Sendable {
  /// Of every tensor here.
  let shapes: [String: [Int]]
  private let state: Mutex<[String: Filters]>

  private enum Filters: Sendable {
    case plain(Weight)
    case packed(ConvolutionKernel)
  }

  init(_ weights: [String: Weight]) {
    shapes = weights.mapValues(\.shape)
    state = Mutex(weights.mapValues(Filters.plain))
  }

  /// Whether a tensor of this shape is the filters of a convolution over pictures: one of 1 by 1 is a matrix.
  static func takes(_ shape: [Int]) -> Bool { shape.count == 4 && shape[2] * shape[3] > 1 }

  /// The packed filters of a tensor, nil where it is not here. All who ask give the same bias.
  func kernel(_ tensor: String, stride: Int, bias: Tensor?) -> ConvolutionKernel? {
    state.withLock { filters in
      switch filters[tensor] {
      case .packed(let kernel): return kernel
      case .plain(let weight):
        let kernel = ConvolutionKernel(weight: weight, bias: bias, stride: stride)
        filters[tensor] = .packed(kernel)
        return kernel
      case nil: return nil
      }
    }
  }

  /// The filters as they were read.
  func weight(_ tensor: String) -> Weight? {
    switch state.withLock({ $0[tensor] }) {
    case .packed(let kernel): Weight(kernel.weight())
    case .plain(let weight): weight
    case nil: nil
    }
  }
}
