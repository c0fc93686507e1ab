import CKernels
import COneDNN

/// What this processor multiplies beside f32, found out by trying: the instruction set alone proves nothing about
/// the library that uses it.
public enum ChipArithmetic {
  /// Whether products of bfloat16 numbers run in hardware: the processor has the instructions, oneDNN has a kernel
  /// for them, and a small product agrees with one in f32. Where not, bfloat16 is a way of storing only.
  public static let multipliesBFloat16: Bool = isUnlimited && ck_cpu_has_bf16() != 0 && agreesInBFloat16()

  /// Whether oneDNN's products of 8-bit integers are exact here, also for the largest numbers: those of VNNI are,
  /// older ones saturate. Where not, the engine's own kernel is used, which is exact and slower than VNNI.
  public static let multipliesInt8: Bool =
    isUnlimited && ck_cpu_has_vnni() != 0 && isExactInInt8(largest: 127)

  /// Whether the SIMD level was left alone: a lower one is meant to do without what came later.
  private static var isUnlimited: Bool { SIMDLevel.current == .avx512 }

  /// Compares a product of oneDNN with the definition.
  package static func agreesInBFloat16() -> Bool {
    let (m, n, k) = (32, 80, 96)
    guard let plan = MatMulPlan.shared(.bfloat16, m: m, n: n, k: k) else { return false }
    var random = TorchRandom(seed: 0)
    let (a, b) = (random.randn([m, k]), random.randn([n, k]))
    func narrow(_ x: Tensor) -> Storage {
      let result = Storage(count: x.count)
      HalfConversion.floatToBFloat16(x.base, result.floats, count: x.count)
      return result
    }
    func widened(_ halves: Storage, _ count: Int) -> [Float] {
      var result = [Float](repeating: 0, count: count)
      HalfConversion.bfloat16ToFloat(halves.floats, &result, count: count)
      return result
    }
    let (left, right) = (narrow(a), narrow(b))
    let weights = plan.packed(right)
    let result = Tensor(uninitialized: [m, n])
    plan.run(left.floats, weights, result.base)
    let (x, y) = (widened(left, m * k), widened(right, n * k))
    let found = result.array()
    for row in 0..<m {
      for column in 0..<n {
        let expected = (0..<k).reduce(0.0) { $0 + Double(x[row * k + $1]) * Double(y[column * k + $1]) }
        guard abs(expected - Double(found[row * n + column])) < 1e-3 * Double(k).squareRoot() else {
          return false
        }
      }
    }
    keepAlive(left)
    return true
  }

  /// Compares a product of oneDNN with the definition, with numbers of up to `largest` that all add up.
  package static func isExactInInt8(largest: Int) -> Bool {
    let (m, n, k) = (16, 48, 512)
    guard let plan = MatMulPlan.shared(.int8, m: m, n: n, k: k) else { return false }
    // Rows of the largest numbers of either sign, and rows between.
    let left = (0..<m * k).map {
      UInt8(clamping: 128 + ($0 / k % 3 == 0 ? largest : $0 * 7 % (2 * largest + 1) - largest))
    }
    let right = (0..<n * k).map { index in
      let sign = index / k % 2 == 0 ? 1 : -1
      return Int8(clamping: index / k % 3 == 0 ? sign * largest : index * 11 % (2 * largest + 1) - largest)
    }
    let (a, b) = (Storage(count: m * k / 4), Storage(count: n * k / 4))
    left.withUnsafeBytes {
      UnsafeMutableRawPointer(a.floats).copyMemory(from: $0.baseAddress!, byteCount: m * k)
    }
    right.withUnsafeBytes {
      UnsafeMutableRawPointer(b.floats).copyMemory(from: $0.baseAddress!, byteCount: n * k)
    }
    let weights = plan.packed(b)
    let result = Storage(count: m * n)
    plan.run(a.floats, weights, result.floats)
    let sums = UnsafeRawPointer(result.floats).assumingMemoryBound(to: Int32.self)
    let isExact = (0..<m * n).allSatisfy { index in
      let (row, column) = (index / n * k, index % n * k)
      return Int(sums[index]) == (0..<k).reduce(0) { $0 + Int(left[row + $1]) * Int(right[column + $1]) }
    }
    // And the layout is one that can be left again.
    let back = plan.unpacked(weights)
    let returns = right.withUnsafeBytes {
      $0.elementsEqual(UnsafeRawBufferPointer(start: back.floats, count: n * k))
    }
    keepAlive(a, result, back)
    return isExact && returns
  }
}
