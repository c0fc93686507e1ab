public import TensorCore

/// A table with one row of numbers per token. Only the rows that a call asks for are read, so that a table of
/// gigabytes can stay in its file.
public struct Embedding: Sendable {
  private let weights: Weights
  /// Number of rows.
  public let count: Int
  /// Width of a row.
  public let width: Int

  /// Checks `weight` `[count, width]` and keeps the cursor.
  public init(_ weights: Weights, _ count: Int, _ width: Int) throws(WeightsError) {
    try weights.check("weight", shape: [count, width])
    self.weights = weights
    self.count = count
    self.width = width
  }

  /// The rows of `ids`, each below `count`, as `[ids.count, width]`.
  public func callAsFunction(_ ids: [Int]) throws(WeightsError) -> Tensor {
    var rows: [Int: Tensor] = [:]
    for id in ids where rows[id] == nil {
      rows[id] = try weights.rows("weight", shape: [count, width], in: id..<id + 1)
    }
    return Tensor.concatenated(ids.compactMap { rows[$0] }, axis: 0)
  }
}
