import DiffusionLayers
import DiffusionModels
import TensorCore

extension Precision {
  /// What `auto` means for these weights on this processor; the others mean themselves.
  func resolved(for source: any WeightSource) -> Precision {
    guard self == .auto else { return self }
    if source.isQuantized { return .int8 }
    return ChipArithmetic.multipliesBFloat16 ? .bf16 : .f32
  }

  /// The format in which a tensor of the backbone is kept, given the one it is stored in. Only matrices change.
  func format(
    of tensor: String, _ shape: [Int], stored: DType, in architecture: BackboneArchitecture
  ) -> DType {
    guard shape.count == 2 else { return stored }
    switch self {
    case .auto, .f32: return stored == .int8 ? .float32 : stored
    case .bf16:
      // f16 is no larger and more exact, where nothing multiplies bf16.
      return stored == .float16 && !ChipArithmetic.multipliesBFloat16 ? .float16 : .bfloat16
    case .int8:
      return architecture.toleratesInt8(tensor) && Weight.fitsInt8(shape) ? .int8 : stored
    }
  }
}

extension WeightSource {
  /// Whether some matrices are stored as 8-bit integers.
  var isQuantized: Bool { names.contains { format(of: $0) == .int8 } }
}
