import TensorCore
import TestSupport
import Testing

/// Products of every cut and weight format against naive twins.
@Suite(.serialized) struct MatrixProductTests {
  private func random(_ shape: [Int], seed: UInt64) -> Tensor {
    var source = TorchRandom(seed: seed)
    return source.randn(shape)
  }

  /// `x · wᵀ` in double precision, at a few places.
  private func compare(_ found: Tensor, _ x: Tensor, _ w: Tensor, _ what: String) {
    let (m, k, n) = (x.shape[0], x.shape[1], w.shape[0])
    let (values, a, b) = (found.array(), x.array(), w.array())
    let places = stride(from: 0, to: m * n, by: max(1, m * n / 997)).map { $0 } + [m * n - 1]
    for place in places {
      let (row, column) = (place / n, place % n)
      let exact = (0..<k).reduce(0.0) { $0 + Double(a[row * k + $1]) * Double(b[column * k + $1]) }
      let bound = 2e-6 * Double(k).squareRoot() * 4
      #expect(
        abs(Double(values[place]) - exact) < bound, "\(what) at \(row), \(column): \(values[place]), \(exact)"
      )
    }
  }

  /// Shapes around the borders of the cut: one piece, two, four, a rest in either direction, sums taken in pieces.
  @Test(arguments: [
    [1, 1, 1], [3, 5, 7], [16, 16, 33], [65, 130, 64], [800, 40, 96], [40, 1600, 64], [769, 770, 17],
    [1, 3000, 40],
    [33, 47, 2879], [33, 47, 2881], [20, 30, 5000],
  ])
  func cutsAgainstNaive(_ shape: [Int]) {
    let (m, n, k) = (shape[0], shape[1], shape[2])
    let (x, w) = (random([m, k], seed: 1), random([n, k], seed: 2))
    compare(Tensor.linear(x, weight: w), x, w, "linear \(shape)")
    // The gradients' products have the other operands transposed.
    let (dx, dw) = (x.trainable(), w.trainable())
    let ones = Tensor(repeating: 1, shape: [m, n])
    let gradients = (Tensor.linear(dx, weight: dw) * ones).sum().gradients(of: [dx, dw])
    let transposed = w.permuted([1, 0]).contiguous()
    compare(gradients[0], ones, transposed, "gradient of x \(shape)")
    compare(
      gradients[1], Tensor(repeating: 1, shape: [n, m]), x.permuted([1, 0]).contiguous(),
      "gradient of w \(shape)")
  }

  @Test(arguments: [DType.bfloat16, .float16], [[20, 30, 5000], [300, 200, 64], [1, 1600, 48]])
  func halvesHaveTheBytesOfWidenedNumbers(_ format: DType, shape: [Int]) {
    let (m, n, k) = (shape[0], shape[1], shape[2])
    let weight = Weight(halves: format, shape: [n, k]) { raw in
      for index in 0..<n * k {
        let small = Float16(Double(index * 37 % 2001 - 1000) / 512)
        let bits =
          format == .float16 ? small.bitPattern : UInt16(truncatingIfNeeded: Float(small).bitPattern >> 16)
        raw.storeBytes(of: bits, toByteOffset: 2 * index, as: UInt16.self)
      }
    }
    let (x, bias) = (random([m, k], seed: 3), random([n], seed: 4))
    let wide = weight.floats()
    #expect(
      Tensor.linear(x, weight: weight, bias: bias, activation: .silu).array()
        == Tensor.linear(x, weight: wide, bias: bias, activation: .silu).array())
    #expect(weight.rows([n - 1, 0]).array() == Array(wide.array().suffix(k) + wide.array().prefix(k)))
  }

  @Test(arguments: [DType.float32, .bfloat16, .int8]) func epilogueIsTheComposition(_ format: DType) {
    let (b, l, n, k) = (2, 45, 70, 33)
    let weight = Weight(random([n, k], seed: 5)).converted(to: format)
    let (x, bias) = (random([b, l, k], seed: 6), random([n], seed: 7))
    let (residual, gate) = (random([b, l, n], seed: 8), random([b, 1, n], seed: 9))
    for activation in [Activation.identity, .relu, .silu, .geluTanh] {
      let plain = Tensor.linear(x, weight: weight, bias: bias, activation: activation)
      #expect(
        Tensor.linear(x, weight: weight, bias: bias, activation: activation, residual: residual, gate: gate)
          .array()
          == Tensor.gatedAdd(residual, plain, gate: gate).array())
      #expect(
        Tensor.linear(x, weight: weight, bias: bias, activation: activation, residual: residual).array()
          == (residual + plain).array())
      let bare = Tensor.linear(x, weight: weight)
      let added = bare + bias.reshaped([1, 1, n])
      let composed =
        switch activation {
        case .identity: added
        case .relu: added.relu()
        case .silu: added.silu()
        case .geluTanh: added.geluTanh()
        }
      let difference = Difference(plain, composed)
      #expect(difference.relative < Tolerance.operation, "\(format) \(activation): \(difference)")
    }
  }

  @Test func bfloat16RoundsToNearestEven() {
    // Ties to even both ways, one above and one below a tie, the largest numbers, subnormals, both zeros, NaN.
    let bits: [(UInt32, UInt16)] = [
      (0x3f80_8000, 0x3f80), (0x3f81_8000, 0x3f82), (0x3f80_8001, 0x3f81), (0x3f80_7fff, 0x3f80),
      (0xbf81_8000, 0xbf82), (0x7f7f_ffff, 0x7f80), (0x7f7f_7fff, 0x7f7f), (0x7f80_0000, 0x7f80),
      (0xff80_0000, 0xff80), (0x0000_0001, 0), (0x0000_8001, 1), (0x8000_0000, 0x8000), (0, 0),
    ]
    let many = (0..<40).flatMap { _ in bits }
    atEveryLevel { level in
      let weight = Weight(Tensor(many.map { Float(bitPattern: $0.0) }, shape: [many.count, 1])).converted(
        to: .bfloat16)
      let found = weight.floats().array().map { UInt16($0.bitPattern >> 16) }
      #expect(found == many.map(\.1), "\(level)")
      let nan = Weight(Tensor([.nan, Float(bitPattern: 0x7f80_0001)], shape: [1, 2])).converted(to: .bfloat16)
      let both = nan.floats().array()
      #expect(both[0].isNaN && both[1].isNaN, "\(level)")
    }
  }

  // MARK: - 8-bit integers

  /// Integers as floats whose row has the scale 1, so that the result is the sum itself.
  private func integers(_ shape: [Int], _ value: (Int, Int) -> Int) -> ([[Int]], Tensor) {
    let rows = (0..<shape[0]).map { row in (0..<shape[1]).map { $0 == 0 ? 127 : value(row, $0) } }
    return (rows, Tensor(rows.flatMap { $0 }.map(Float.init), shape: shape))
  }

  @Test(arguments: [
    [1, 1, 1], [2, 3, 2], [5, 16, 15], [6, 17, 64], [7, 65, 129], [13, 40, 1537], [12, 18, 3073],
    [2, 3, 65536],
  ])
  func integerProductIsExactAtTheExtremes(_ shape: [Int]) {
    let (m, n, k) = (shape[0], shape[1], shape[2])
    for kind in 0..<3 {
      // All largest of one sign, alternating pairs, and everything between.
      let (a, x) = integers([m, k]) { row, column in
        kind == 0
          ? (row % 2 == 0 ? 127 : -127)
          : kind == 1 ? (column / 2 % 2 == 0 ? 127 : -127) : (row * 31 + column * 7) % 255 - 127
      }
      let (b, w) = integers([n, k]) { row, column in
        kind == 0
          ? (row % 3 == 0 ? -127 : 127)
          : kind == 1 ? (column / 2 % 2 == row % 2 ? 127 : -127) : (row * 17 + column * 11) % 255 - 127
      }
      let expected = (0..<m).flatMap { row in
        (0..<n).map { column in Float((0..<k).reduce(0) { $0 + a[row][$1] * b[column][$1] }) }
      }
      atEveryLevel { level in
        let weight = Weight(w).converted(to: .int8)
        #expect(weight.format == .int8 && weight.floats().array() == w.array())
        #expect(Tensor.linear(x, weight: weight).array() == expected, "\(shape) kind \(kind) at \(level)")
      }
    }
  }

  @Test func quantisationAgainstNaive() {
    let (m, n, k) = (9, 20, 77)
    let (x, w) = (random([m, k], seed: 10), random([n, k], seed: 11))
    func naive(_ values: ArraySlice<Float>) -> ([Int], Double) {
      let top = values.map(abs).max() ?? 0
      return (values.map { Int(($0 * (127 / top)).rounded(.toNearestOrEven)) }, Double(top) / 127)
    }
    let (a, b) = (x.array(), w.array())
    let rows = (0..<m).map { naive(a[$0 * k..<($0 + 1) * k]) }
    let columns = (0..<n).map { naive(b[$0 * k..<($0 + 1) * k]) }
    let expected = rows.flatMap { row in
      columns.map { column in
        Float(Double(zip(row.0, column.0).reduce(0) { $0 + $1.0 * $1.1 }) * row.1 * column.1)
      }
    }
    atEveryLevel { level in
      let found = Tensor.linear(x, weight: Weight(w).converted(to: .int8))
      let difference = Difference(found, Tensor(expected, shape: [m, n]))
      #expect(difference.relative < Tolerance.operation, "\(level): \(difference)")
    }
    let exact = Difference(
      Tensor.linear(x, weight: Weight(w).converted(to: .int8)), Tensor.linear(x, weight: w))
    #expect(exact.relative < 0.03 && exact.relative > 1e-4, "\(exact)")
  }

  @Test func rowsWithoutNumbersAndBadRows() {
    let weight = Weight(random([8, 40], seed: 12)).converted(to: .int8)
    var values = [Float](repeating: 0, count: 4 * 40)
    values[40 + 3] = .nan
    values[80 + 7] = .infinity
    values[120 + 39] = 1e-38
    atEveryLevel { level in
      let result = Tensor.linear(Tensor(values, shape: [4, 40]), weight: weight).array()
      let kinds = result.map { $0 == 0 ? 0 : $0.isFinite ? 1 : 2 }
      let expected = [0, 2, 2, 0].flatMap { [Int](repeating: $0, count: 8) }
      #expect(kinds == expected, "\(level)")
    }
    let zeros = Weight(Tensor.zeros([3, 5])).converted(to: .int8)
    #expect(zeros.floats().array() == [Float](repeating: 0, count: 15))
  }

  @Test func formatsAndBytes() {
    let weight = Weight(random([6, 10], seed: 13))
    #expect(weight.bytes == 240 && weight.converted(to: .bfloat16).bytes == 120)
    let small = weight.converted(to: .int8)
    #expect(small.bytes == 60 + 24 && small.converted(to: .int8).floats().array() == small.floats().array())
    #expect(
      small.rows([5, 2]).array() == Array(small.floats().array()[50..<60] + small.floats().array()[20..<30]))
    #expect(small.converted(to: .float32).format == .float32)
    // Rounding again changes nothing.
    let half = weight.converted(to: .bfloat16)
    #expect(Weight(half.floats()).converted(to: .bfloat16).floats().array() == half.floats().array())
    #expect(!Weight.fitsInt8([4, 65_537]) && !Weight.fitsInt8([3]) && !Weight.fitsInt8([0, 4]))
  }

  /// oneDNN's integer product through the engine's own plans: exact here for numbers of 6 bits on any processor; with
  /// all 8 bits it is used only where the same check succeeds.
  @Test func oneDNNIntegerPlans() {
    #expect(ChipArithmetic.isExactInInt8(largest: 31))
    if ChipArithmetic.multipliesInt8 { #expect(ChipArithmetic.isExactInInt8(largest: 127)) }
    if ChipArithmetic.multipliesBFloat16 { #expect(ChipArithmetic.agreesInBFloat16()) }
  }
}
