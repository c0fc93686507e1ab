public import TensorCore

/// How far two tensors are apart.
public struct Difference: CustomStringConvertible, Sendable {
  /// max |a - b| / max |b|.
  public let relative: Double
  public let largest: Double
  public let mean: Double
  /// Flat index of the largest difference.
  public let position: Int
  private let text: String

  /// Compares `found` with `expected`; shapes must be equal.
  public init(_ found: Tensor, _ expected: Tensor) {
    guard found.shape == expected.shape else {
      relative = .infinity
      largest = .infinity
      mean = .infinity
      position = 0
      text = "shapes \(found.shape), expected \(expected.shape)"
      return
    }
    let (a, b) = (found.array(), expected.array())
    var (worst, at, sum, scale) = (0.0, 0, 0.0, 0.0)
    for index in a.indices {
      var difference = abs(Double(a[index]) - Double(b[index]))
      if difference.isNaN { difference = .infinity }
      sum += difference
      scale = max(scale, abs(Double(b[index])))
      if difference > worst { (worst, at) = (difference, index) }
    }
    largest = worst
    mean = a.isEmpty ? 0 : sum / Double(a.count)
    relative = worst / (scale > 0 ? scale : 1)
    position = at
    let pairs = zip(a, b).prefix(5).map { "\($0) / \($1)" }.joined(separator: ", ")
    text =
      "shape \(found.shape): max \(worst) (relative \(relative)) at \(at), mean \(mean); first pairs \(pairs)"
  }

  public var description: String { text }
}

/// Tolerances by name: largest difference over the largest expected value.
public enum Tolerance {
  /// One f32 operation against another implementation of it.
  public static let operation = 2e-6
  /// One convolution by Winograd's method, whose rounding error is about six times that of the direct sum.
  public static let winograd = 1e-5
  /// A whole network in f32 against its reference.
  public static let network = 1e-4
  /// A gradient against central differences in f32.
  public static let finiteDifference = 2e-2
}
