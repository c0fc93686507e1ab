import COneDNN
import Synchronization

/// Number formats of oneDNN's matrix products.
enum NarrowFormat: Hashable {
  /// bfloat16 times bfloat16, summed in f32.
  case bfloat16
  /// Unsigned 8-bit numbers times signed ones, summed in 32-bit integers.
  case int8

  fileprivate var source: dnnl_data_type_t { self == .bfloat16 ? dnnl_bf16 : dnnl_u8 }
  fileprivate var weights: dnnl_data_type_t { self == .bfloat16 ? dnnl_bf16 : dnnl_s8 }
  fileprivate var target: dnnl_data_type_t { self == .bfloat16 ? dnnl_f32 : dnnl_s32 }
}

/// One of oneDNN's matrix products, `[m, k] · [n, k]ᵀ`, ready to run.
///
/// `@unchecked Sendable`: immutable after `init`; oneDNN primitives may run concurrently with separate scratch
/// memory.
final class MatMulPlan: @unchecked Sendable {
  private let primitive: dnnl_primitive_t?
  private let source: dnnl_memory_desc_t
  /// How the matrix must lie.
  let weights: dnnl_memory_desc_t
  private let target: dnnl_memory_desc_t
  private let scratch: dnnl_memory_desc_t
  /// The matrix `[n, k]` in row-major order.
  private let plainWeights: dnnl_memory_desc_t

  private struct Key: Hashable {
    let format: NarrowFormat
    let m: Int
    let n: Int
    let k: Int
  }
  private static let plans = Mutex<[Key: MatMulPlan]>([:])

  /// The plan of a shape, nil where oneDNN has none that is faster than its reference. All row counts of one matrix
  /// share its layout, which is the one that oneDNN likes best for many rows.
  static func shared(_ format: NarrowFormat, m: Int, n: Int, k: Int) -> MatMulPlan? {
    plans.withLock { plans in
      func plan(_ m: Int, _ layout: dnnl_memory_desc_t?) -> MatMulPlan? {
        let key = Key(format: format, m: m, n: n, k: k)
        if let known = plans[key] { return known }
        if plans.count > 512 { plans = [:] }
        let made = OneDNN.singleThreaded { MatMulPlan(format, m: m, n: n, k: k, layout: layout) }
        plans[key] = made
        return made
      }
      guard let usual = plan(usualRows, nil) else { return nil }
      return m == usualRows ? usual : plan(m, usual.weights)
    }
  }

  private static let usualRows = 160

  private init?(_ format: NarrowFormat, m: Int, n: Int, k: Int, layout: dnnl_memory_desc_t?) {
    var source = OneDNN.descriptor([m, k], dnnl_ab, format.source)
    var wanted = layout ?? OneDNN.descriptor([k, n], dnnl_format_tag_any, format.weights)
    var target = OneDNN.descriptor([m, n], dnnl_ab, format.target)
    var operation = dnnl_matmul_desc_t()
    var attributes: dnnl_primitive_attr_t?
    var description: dnnl_primitive_desc_t?
    dnnl_primitive_attr_create(&attributes)
    dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user)
    defer {
      dnnl_primitive_attr_destroy(attributes)
      if let description { dnnl_primitive_desc_destroy(description) }
    }
    guard dnnl_matmul_desc_init(&operation, &source, &wanted, nil, &target) == dnnl_success,
      dnnl_primitive_desc_create(&description, &operation, attributes, OneDNN.engine, nil) == dnnl_success
    else { return nil }
    var name: UnsafePointer<CChar>?
    dnnl_primitive_desc_query(description, dnnl_query_impl_info_str, 0, &name)
    guard let name, !String(cString: name).hasPrefix("ref") else { return nil }
    guard let weights = dnnl_primitive_desc_query_md(description, dnnl_query_weights_md, 0)?.pointee,
      let scratch = dnnl_primitive_desc_query_md(description, dnnl_query_scratchpad_md, 0)?.pointee
    else { return nil }
    var primitive: dnnl_primitive_t?
    guard dnnl_primitive_create(&primitive, description) == dnnl_success else { return nil }
    self.primitive = primitive
    self.source = source
    self.weights = weights
    self.target = target
    self.scratch = scratch
    plainWeights = OneDNN.descriptor([k, n], dnnl_ba, format.weights)
  }

  deinit { dnnl_primitive_destroy(primitive) }

  /// Bytes of the matrix in the plan's layout.
  private var packedBytes: Int {
    var layout = weights
    return dnnl_memory_desc_get_size(&layout)
  }

  /// The matrix in the plan's layout, from row-major order.
  func packed(_ plain: Storage) -> Storage {
    let result = Storage(count: packedBytes / 4 + 16)
    OneDNN.singleThreaded { OneDNN.reorder(plain.floats, plainWeights, result.floats, weights) }
    keepAlive(plain)
    return result
  }

  /// The matrix in row-major order, from the plan's layout.
  func unpacked(_ packed: Storage) -> Storage {
    var layout = plainWeights
    let result = Storage(count: dnnl_memory_desc_get_size(&layout) / 4 + 1)
    OneDNN.singleThreaded { OneDNN.reorder(packed.floats, weights, result.floats, plainWeights) }
    keepAlive(packed)
    return result
  }

  /// Computes on the calling thread alone: dense rows `from` of `k` numbers to dense rows `to` of `n`.
  func run(_ from: UnsafeMutablePointer<Float>, _ matrix: Storage, _ to: UnsafeMutablePointer<Float>) {
    OneDNN.singleThreaded {
      var layout = scratch
      let workspace = Storage(count: dnnl_memory_desc_get_size(&layout) / 4 + 1)
      OneDNN.execute(
        primitive,
        [
          (DNNL_ARG_SRC, source, UnsafeMutableRawPointer(from)),
          (DNNL_ARG_WEIGHTS, weights, UnsafeMutableRawPointer(matrix.floats)),
          (DNNL_ARG_DST, target, UnsafeMutableRawPointer(to)),
          (DNNL_ARG_SCRATCHPAD, scratch, UnsafeMutableRawPointer(workspace.floats)),
        ])
      keepAlive(workspace, matrix)
    }
  }
}
