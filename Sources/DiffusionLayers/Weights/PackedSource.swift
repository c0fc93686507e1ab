public import TensorCore

/// A source whose smaller matrices are kept once more in the layout that a training multiplies in (`Weight.packed()`).
///
/// Every sample of every step reads them, forwards and backwards, and has few rows to share the cost of packing among.
/// Large matrices are left alone: packing them per product costs next to nothing, and keeping a copy a lot.
public struct PackedSource: WrappingSource {
  /// Numbers of the largest matrix that is packed.
  static let largest = 1 << 20
  /// Numbers of all packed matrices together.
  static let most = 1 << 26

  public let base: any WeightSource
  private let packed: [String: Weight]

  /// Packs the matrices of `base`, in the order of their names until there are enough.
  public init(_ base: any WeightSource) throws(WeightsError) {
    self.base = base
    var packed: [String: Weight] = [:]
    var total = 0
    for name in base.names {
      guard let shape = base.shape(of: name), shape.count == 2, shape.product <= Self.largest else {
        continue
      }
      total += shape.product
      if total > Self.most { break }
      packed[name] = try base.weight(name, shape: shape).packed()
    }
    self.packed = packed
  }

  public func weight(_ tensor: String, shape: [Int]) throws(WeightsError) -> Weight {
    try check(tensor, shape: shape)
    if let weight = packed[tensor] { return weight }
    return try base.weight(tensor, shape: shape)
  }
}
