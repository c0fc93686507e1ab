import CKernels

/// The SIMD kernels of this CPU.
var kernels: CKernelTable { ck_kernels().pointee }

/// Which instruction set the SIMD kernels use.
public enum SIMDLevel: Int32, Sendable, CaseIterable, CustomStringConvertible {
  case portable = 0
  case avx2 = 1
  case avx512 = 2

  /// The level in use.
  public static var current: SIMDLevel { SIMDLevel(rawValue: ck_kernels().pointee.level) ?? .portable }

  /// Limits the process to `level` or lower, for comparisons.
  package static func limit(_ level: SIMDLevel) { ck_limit_level(level.rawValue) }

  public var description: String {
    switch self {
    case .portable: "portable"
    case .avx2: "AVX2"
    case .avx512: "AVX-512"
    }
  }
}

/// Floats one elementwise task works on: fixed, so that the cut does not depend on the thread count.
let elementwiseChunk = 32768

/// Calls `body(start, count)` for fixed pieces of `count` floats, in parallel.
func forChunks(_ count: Int, _ body: (Int, Int) -> Void) {
  let tasks = (count + elementwiseChunk - 1) / elementwiseChunk
  parallelFor(tasks) { task in
    let start = task * elementwiseChunk
    body(start, min(elementwiseChunk, count - start))
  }
}

/// Calls `body(firstRow, rowCount)` for fixed pieces of `rows` rows of `width` floats, in parallel.
func forRows(_ rows: Int, width: Int, _ body: (Int, Int) -> Void) {
  let perTask = max(1, elementwiseChunk / max(1, width))
  parallelFor((rows + perTask - 1) / perTask) { task in
    let first = task * perTask
    body(first, min(perTask, rows - first))
  }
}

/// Conversions of 16-bit floats, exact.
public enum HalfConversion {
  /// bfloat16 to float32; `source` may be unaligned to 4 but must be aligned to 2.
  public static func bfloat16ToFloat(
    _ source: UnsafeRawPointer, _ destination: UnsafeMutablePointer<Float>, count: Int
  ) {
    kernels.bf16_to_f32(destination, source.assumingMemoryBound(to: UInt16.self), count)
  }

  /// IEEE half precision to float32.
  public static func float16ToFloat(
    _ source: UnsafeRawPointer, _ destination: UnsafeMutablePointer<Float>, count: Int
  ) {
    kernels.f16_to_f32(destination, source.assumingMemoryBound(to: UInt16.self), count)
  }

  /// Either of both.
  static func widen(
    _ source: UnsafeRawPointer, _ format: DType, _ destination: UnsafeMutablePointer<Float>, _ count: Int
  ) {
    if format == .bfloat16 {
      bfloat16ToFloat(source, destination, count: count)
    } else {
      float16ToFloat(source, destination, count: count)
    }
  }

  /// Float32 to bfloat16, to the nearest, ties to even.
  static func floatToBFloat16(
    _ source: UnsafePointer<Float>, _ destination: UnsafeMutableRawPointer, count: Int
  ) {
    kernels.f32_to_bf16(destination.assumingMemoryBound(to: UInt16.self), source, count)
  }
}

extension Tensor {
  /// Whether no element is NaN or infinite.
  public var isFinite: Bool {
    withFloats { floats in
      guard let start = floats.baseAddress else { return true }
      return kernels.all_finite(start, floats.count) != 0
    }
  }
}
