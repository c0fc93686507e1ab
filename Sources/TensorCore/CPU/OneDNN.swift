import CKernels
import COneDNN

/// The few calls into oneDNN.
enum OneDNN {
  nonisolated(unsafe) static let engine: dnnl_engine_t? = {
    var engine: dnnl_engine_t?
    check(dnnl_engine_create(&engine, dnnl_cpu, 0), "CPU engine")
    return engine
  }()

  static func descriptor(
    _ dims: [Int], _ tag: dnnl_format_tag_t, _ type: dnnl_data_type_t = dnnl_f32
  ) -> dnnl_memory_desc_t {
    var layout = dnnl_memory_desc_t()
    check(
      dnnl_memory_desc_init_by_tag(&layout, Int32(dims.count), dims.map(Int64.init), type, tag),
      "memory descriptor \(dims)")
    return layout
  }

  static func descriptor(_ dims: [Int], strides: [Int]) -> dnnl_memory_desc_t {
    var layout = dnnl_memory_desc_t()
    check(
      dnnl_memory_desc_init_by_strides(
        &layout, Int32(dims.count), dims.map(Int64.init), dnnl_f32, strides.map(Int64.init)),
      "memory descriptor \(dims) with strides \(strides)")
    return layout
  }

  static func execute(
    _ primitive: dnnl_primitive_t?, _ arguments: [(Int32, dnnl_memory_desc_t, UnsafeMutableRawPointer)]
  ) {
    var stream: dnnl_stream_t?
    check(dnnl_stream_create(&stream, engine, UInt32(dnnl_stream_default_flags.rawValue)), "stream")
    let memories = arguments.map { argument, layout, pointer in
      var (memory, layout) = (dnnl_memory_t?.none, layout)
      check(dnnl_memory_create(&memory, &layout, engine, pointer), "memory")
      return dnnl_exec_arg_t(arg: argument, memory: memory)
    }
    check(dnnl_primitive_execute(primitive, stream, Int32(memories.count), memories), "execution")
    dnnl_stream_wait(stream)
    for argument in memories { dnnl_memory_destroy(argument.memory) }
    dnnl_stream_destroy(stream)
  }

  /// Copies numbers from one layout to another.
  static func reorder(
    _ source: UnsafeMutablePointer<Float>, _ given: dnnl_memory_desc_t,
    _ destination: UnsafeMutablePointer<Float>, _ wanted: dnnl_memory_desc_t
  ) {
    var (from, to) = (given, wanted)
    var description: dnnl_primitive_desc_t?
    check(dnnl_reorder_primitive_desc_create(&description, &from, engine, &to, engine, nil), "reorder")
    var primitive: dnnl_primitive_t?
    check(dnnl_primitive_create(&primitive, description), "reorder")
    execute(
      primitive,
      [
        (DNNL_ARG_SRC, from, UnsafeMutableRawPointer(source)),
        (DNNL_ARG_DST, to, UnsafeMutableRawPointer(destination)),
      ])
    dnnl_primitive_destroy(primitive)
    dnnl_primitive_desc_destroy(description)
  }

  /// Runs `body` with OpenMP limited to the calling thread.
  static func singleThreaded<R>(_ body: () -> R) -> R {
    let before = ck_openmp_single()
    defer { ck_openmp_restore(before) }
    return body()
  }

  /// oneDNN fails here only for shapes that a programmer got wrong or when memory is exhausted.
  static func check(_ status: dnnl_status_t, _ what: String) {
    precondition(status == dnnl_success, "oneDNN refused a \(what) (status \(status.rawValue))")
  }
}
