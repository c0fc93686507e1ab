import Glibc
import Synchronization
public import TensorCore

/// Cosine and sine tables of a rotary embedding over frames, rows and columns, `[L, D / 2]` each.
public struct RotaryTable: Sendable {
  public let cosine: Tensor
  public let sine: Tensor

  /// Three-axis table as Wan uses it: of `headDim` channels, rows and columns take `2 * (headDim / 6)` each
  /// and the frames the rest. Angles are computed in double precision, as the reference does.
  public init(headDim: Int, positions: RotaryPositions, theta: Double = 10000) {
    let spatial = 2 * (headDim / 6)
    let axes = [
      (positions.frames, headDim - 2 * spatial), (positions.rows, spatial), (positions.columns, spatial),
    ]
    let (frames, rows, columns) = (positions.frames.count, positions.rows.count, positions.columns.count)
    let half = headDim / 2
    let length = frames * rows * columns
    let angles = axes.map { values, size in
      values.map { position in
        (0..<size / 2).map { Double(position) / pow(theta, Double(2 * $0) / Double(size)) }
      }
    }
    func table(_ function: (Double) -> Double) -> Tensor {
      let parts = angles.map { $0.map { $0.map { Float(function($0)) } } }
      return Tensor(shape: [length, half]) { values in
        var at = 0
        for frame in 0..<frames {
          for row in 0..<rows {
            for column in 0..<columns {
              for value in [parts[0][frame], parts[1][row], parts[2][column]].joined() {
                values[at] = value
                at += 1
              }
            }
          }
        }
      }
    }
    cosine = table(cos)
    sine = table(sin)
  }

  /// Rotates `x` `[B, L, H, D]`.
  public func callAsFunction(_ x: Tensor) -> Tensor {
    Tensor.rotary(x, cosine: cosine, sine: sine)
  }
}

/// The last table that was asked for: all steps of a run use one.
public final class RotaryMemory: Sendable {
  private let last = Mutex<(positions: RotaryPositions, table: RotaryTable)?>(nil)
  private let headDim: Int

  public init(headDim: Int) { self.headDim = headDim }

  /// The table for these positions.
  public func callAsFunction(_ positions: RotaryPositions) -> RotaryTable {
    last.withLock { last in
      if let last, last.positions == positions { return last.table }
      let table = RotaryTable(headDim: headDim, positions: positions)
      last = (positions, table)
      return table
    }
  }
}
