import TensorCore
import TestSupport
import Testing

/// Products with packed matrices, and the low-rank change inside them, against naive twins in double precision.
@Suite(.serialized) struct PanelTests {
  /// Rows, inputs, outputs, rank of the change (0: none).
  struct Size: Sendable, CustomTestStringConvertible {
    let m, k, n, r: Int
    var testDescription: String { "\(m)x\(k)x\(n) rank \(r)" }
  }
  /// Around the borders of tiles of 12, 6, 4, 2 and 1 rows, of panels of 16 columns, and of blocks of 48 terms.
  static let sizes = [
    Size(m: 1, k: 1, n: 1, r: 1), Size(m: 5, k: 3, n: 17, r: 2), Size(m: 12, k: 16, n: 16, r: 8),
    Size(m: 47, k: 33, n: 40, r: 16), Size(m: 49, k: 128, n: 130, r: 9), Size(m: 300, k: 70, n: 48, r: 4),
    Size(m: 1031, k: 96, n: 20, r: 7), Size(m: 23, k: 40, n: 31, r: 0),
  ]

  /// A matrix of doubles, for twins that say what they compute.
  private struct Matrix {
    let rows, columns: Int
    var values: [Double]

    init(_ tensor: Tensor) {
      (rows, columns) = (tensor.count / max(1, tensor.shape.last ?? 1), tensor.shape.last ?? 1)
      values = tensor.array().map(Double.init)
    }

    init(rows: Int, columns: Int, _ value: (Int, Int) -> Double) {
      (self.rows, self.columns) = (rows, columns)
      values = (0..<rows * columns).map { value($0 / columns, $0 % columns) }
    }

    subscript(_ row: Int, _ column: Int) -> Double { values[row * columns + column] }
    var transposed: Matrix { Matrix(rows: columns, columns: rows) { self[$1, $0] } }

    static func * (a: Matrix, b: Matrix) -> Matrix {
      Matrix(rows: a.rows, columns: b.columns) { row, column in
        (0..<a.columns).reduce(0.0) { $0 + a[row, $1] * b[$1, column] }
      }
    }
    static func + (a: Matrix, b: Matrix) -> Matrix {
      Matrix(rows: a.rows, columns: a.columns) { a[$0, $1] + b[$0, $1] }
    }
    func scaled(_ factor: Double) -> Matrix {
      Matrix(rows: rows, columns: columns) { self[$0, $1] * factor }
    }
    func tensor(_ shape: [Int]) -> Tensor { Tensor(values.map(Float.init), shape: shape) }
  }

  private func compare(_ found: Tensor, _ expected: Matrix, _ what: String) {
    let difference = Difference(found, expected.tensor(found.shape))
    #expect(difference.relative < 4 * Tolerance.operation, "\(what): \(difference)")
  }

  @Test(arguments: sizes) func productsAndGradients(_ s: Size) {
    var random = TorchRandom(seed: UInt64(s.m * 7 + s.n))
    let (x, w, bias) = (random.randn([s.m, s.k]), random.randn([s.n, s.k]), random.randn([s.n]))
    let (down, up) = (random.randn([s.r, s.k]), random.randn([s.n, s.r]))
    let upstream = random.randn([s.m, s.n])
    let scale: Float = 0.7

    let (dx, dw, dy) = (Matrix(x), Matrix(w), Matrix(upstream))
    var expected = dx * dw.transposed + Matrix(rows: s.m, columns: s.n) { Double(bias.array()[$1]) }
    var gradients = [dy * dw]
    if s.r > 0 {
      let (a, b, factor) = (Matrix(down), Matrix(up), Double(scale))
      let hidden = (dx * a.transposed).scaled(factor)
      let dh = (dy * b).scaled(factor)
      expected = expected + hidden * b.transposed
      gradients = [gradients[0] + dh * a, dh.transposed * dx, dy.transposed * hidden]
    }
    let weight = Weight(w).packed()
    atEveryLevel { level in
      let leaves = (s.r > 0 ? [x, down, up] : [x]).map { $0.trainable() }
      let y =
        s.r > 0
        ? Tensor.linear(
          leaves[0], weight: weight, bias: bias,
          change: LowRankChange(down: leaves[1], up: leaves[2], scale: scale))
        : Tensor.linear(leaves[0], weight: weight, bias: bias)
      compare(y, expected, "product \(level)")
      for (index, found) in (y * upstream).sum().gradients(of: leaves).enumerated() {
        compare(found, gradients[index], "gradient \(index) \(level)")
      }
    }
  }

  @Test func gradientsAreAddedToWhatIsThere() {
    // One value read by two layers: the second gradient lands in the sum of the first.
    var random = TorchRandom(seed: 9)
    let (x, w, v) = (random.randn([2, 31, 24]), random.randn([20, 24]), random.randn([20, 24]))
    let pairs = (0..<2).map { _ in (random.randn([3, 24]), random.randn([20, 3])) }
    let upstream = random.randn([2, 31, 20])
    func gradients(_ weights: [Weight]) -> [Tensor] {
      let leaves = ([x] + pairs.flatMap { [$0.0, $0.1] }).map { $0.trainable() }
      let y = (0..<2).map {
        Tensor.linear(
          leaves[0], weight: weights[$0], bias: nil,
          change: LowRankChange(down: leaves[1 + 2 * $0], up: leaves[2 + 2 * $0], scale: 1.5))
      }
      return ((y[0] * y[1]) * upstream).sum().gradients(of: leaves)
    }
    let plain = gradients([Weight(w), Weight(v)])
    for (found, expected) in zip(gradients([Weight(w).packed(), Weight(v).packed()]), plain) {
      let difference = Difference(found, expected)
      #expect(difference.relative < 1e-5, "\(difference)")
    }
  }

  @Test(arguments: [Activation.relu, .silu, .geluTanh]) func activations(_ activation: Activation) {
    var random = TorchRandom(seed: 12)
    let (x, w, bias) = (random.randn([3, 19, 12]), random.randn([33, 12]), random.randn([33]))
    let upstream = random.randn([3, 19, 33])
    let results = [Weight(w), Weight(w).packed()].map { weight in
      let leaf = x.trainable()
      let y = Tensor.linear(leaf, weight: weight, bias: bias, activation: activation)
      let frozen = Tensor.linear(x, weight: weight, bias: bias, activation: activation)
      #expect(frozen.array() == y.array())
      return (y, (y * upstream).sum().gradients(of: [leaf])[0])
    }
    #expect(Difference(results[1].0, results[0].0).relative < 1e-5)
    #expect(Difference(results[1].1, results[0].1).relative < 1e-5)
  }

  @Test func noGradientReachesAFrozenInput() {
    var random = TorchRandom(seed: 2)
    let (x, weight) = (random.randn([4, 8]), Weight(random.randn([6, 8])).packed())
    #expect(!Tensor.linear(x, weight: weight).isRecorded)
    let pair = [random.randn([2, 8]).trainable(), random.randn([6, 2]).trainable()]
    let y = Tensor.linear(
      x, weight: weight, bias: nil, change: LowRankChange(down: pair[0], up: pair[1], scale: 1))
    #expect(y.isRecorded)
    #expect(y.sum().gradients(of: pair).allSatisfy { $0.isFinite })
  }
}
