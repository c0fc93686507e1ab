import COneDNN
import Synchronization

/// The filters of a convolution, kept only in the layouts that their users ask for: Winograd's where that is
/// faster, else those of oneDNN's direct method.
///
/// oneDNN runs on one thread inside our own cut (bands of rows); its OpenMP team is never started.
public final class ConvolutionKernel: Sendable {
  /// Channels in and out, extent of the filters.
  public let inputs: Int
  public let outputs: Int
  public let height: Int
  public let width: Int
  /// Nil where the direct method is faster.
  let winograd: WinogradFilters?
  /// Whether pictures of sufficient size pass through Winograd's method.
  package var usesWinograd: Bool { winograd != nil }

  /// Floats of scratch memory that each thread takes for a result of this extent by Winograd's method; 0 where
  /// the direct method is used.
  public func scratchFloats(rows: Int, columns: Int) -> Int {
    guard let winograd, winograd.suits(rows: rows, columns: columns) else { return 0 }
    return winograd.scratchFloats(rows: rows, columns: columns)
  }
  private let bias: Tensor
  private let source: Source
  private let cache: Mutex<Cache>
  /// Made when a gradient is first asked for.
  private let turned = Mutex<ConvolutionKernel?>(nil)

  /// Where oneDNN's filters come from.
  private enum Source {
    /// Packed while the kernel was made.
    case packed
    /// The tap of these, once they are asked for.
    case winograd(WinogradFilters, tap: Int)
  }

  private struct Cache {
    var plans: [PlanKey: ConvolutionPlan] = [:]
    var packed: [PackedWeights] = []
  }

  private struct PlanKey: Hashable {
    let inputRows: Int
    let width: Int
    let padTop: Int
    let padBottom: Int
    let padLeft: Int
    let padRight: Int
    let stride: Int
    let addsSkip: Bool
    let activation: ConvolutionActivation
  }

  /// - Parameters:
  ///   - weight: `[out, in, height, width]` as checkpoints store it.
  ///   - bias: `[out]`, zeros when nil.
  ///   - stride: the stride of the convolutions to come; others work too, at the price of a second copy.
  public init(weight: Tensor, bias: Tensor?, stride: Int = 1) {
    precondition(weight.rank == 4, "convolution weight of shape \(weight.shape)")
    (outputs, inputs, height, width) = (weight.shape[0], weight.shape[1], weight.shape[2], weight.shape[3])
    self.bias = bias?.contiguous() ?? Tensor.zeros([weight.shape[0]])
    cache = Mutex(Cache())
    if stride == 1, WinogradFilters.suits(inputs: inputs, outputs: outputs, height: height, width: width) {
      let filters = WinogradFilters(taps: [weight], bias: bias)
      (winograd, source) = (filters, .winograd(filters, tap: 0))
      return
    }
    (winograd, source) = (nil, .packed)
    // Packed at once, for a picture of some size: most CPUs want one layout for all sizes, and the weight as
    // given need not be kept beside it.
    let typical = ConvolutionBand(
      firstInput: 0, inputRows: 16 + height, width: 32 + width, firstOutput: 0, outputRows: 17,
      outputWidth: 33, padTop: 0, padBottom: 0, padLeft: 0, padRight: 0, stride: 1, addsSkip: true,
      activation: .identity)
    _ = cache.withLock { cache in
      OneDNN.singleThreaded {
        makePlan(typical) { wanted in
          cache.packed = [PackedWeights(weight, as: wanted)]
          return cache.packed[0]
        }
      }
    }
  }

  /// The same for a weight in its file's format, in which large filters stay.
  public convenience init(weight: Weight, bias: Tensor?, stride: Int = 1) {
    let shape = weight.shape
    guard stride == 1, case .halves(let storage, let format) = weight.values, shape.count == 4,
      WinogradFilters.suits(inputs: shape[1], outputs: shape[0], height: shape[2], width: shape[3]),
      WinogradFilters.isLarge(inputs: shape[1], outputs: shape[0])
    else {
      self.init(weight: weight.floats(), bias: bias, stride: stride)
      return
    }
    self.init(
      WinogradFilters(halves: storage, format, inputs: shape[1], outputs: shape[0], bias: bias), bias: bias)
  }

  /// Filters for Winograd's method.
  private init(_ filters: WinogradFilters, bias: Tensor?) {
    (inputs, outputs, height, width) = (filters.inputs, filters.outputs, 3, 3)
    self.bias = bias?.contiguous() ?? Tensor.zeros([filters.outputs])
    (winograd, source) = (filters, .winograd(filters, tap: 0))
    cache = Mutex(Cache())
  }

  /// One tap of filters for a window of frames, for oneDNN's direct method.
  init(_ filters: WinogradFilters, tap: Int, bias: Tensor?) {
    (inputs, outputs, height, width) = (filters.inputs, filters.outputs, 3, 3)
    self.bias = bias?.contiguous() ?? Tensor.zeros([filters.outputs])
    (winograd, source) = (nil, .winograd(filters, tap: tap))
    cache = Mutex(Cache())
  }

  /// The filters `[out, in, height, width]`, unpacked.
  package func weight() -> Tensor {
    if case .winograd(let filters, let tap) = source { return filters.weight(tap) }
    let plain = cache.withLock { cache in
      OneDNN.singleThreaded {
        PackedWeights(cache.packed[0], as: OneDNN.descriptor([outputs, inputs, height, width], dnnl_oihw))
      }
    }
    return Tensor(shape: [outputs, inputs, height, width]) {
      $0.baseAddress?.update(from: plain.storage.floats, count: $0.count)
    }
  }

  /// The filters of the gradient: turned around, from outputs to inputs.
  func transposed() -> ConvolutionKernel {
    turned.withLock { known in
      if let known { return known }
      let plain = weight()
      let (area, count) = (height * width, inputs * outputs)
      let flipped = Tensor(shape: [inputs, outputs, height, width]) { values in
        for index in 0..<count {
          let (input, output) = (index / outputs, index % outputs)
          for place in 0..<area {
            values[index * area + place] = plain.base[(output * inputs + input) * area + area - 1 - place]
          }
        }
      }
      keepAlive(plain)
      let kernel = ConvolutionKernel(weight: flipped, bias: nil)
      known = kernel
      return kernel
    }
  }

  /// The primitive for a band, made on first use. Shapes change rarely; at most a few dozen are kept.
  func plan(for band: ConvolutionBand) -> ConvolutionPlan {
    let key = PlanKey(
      inputRows: band.inputRows, width: band.width, padTop: band.padTop, padBottom: band.padBottom,
      padLeft: band.padLeft, padRight: band.padRight, stride: band.stride, addsSkip: band.addsSkip,
      activation: band.activation)
    return cache.withLock { cache in
      if let plan = cache.plans[key] { return plan }
      let plan = OneDNN.singleThreaded {
        makePlan(band) { wanted in
          if let known = cache.packed.first(where: { $0.matches(wanted) }) { return known }
          if let first = cache.packed.first {
            cache.packed.append(PackedWeights(first, as: wanted))
          } else if case .winograd(let filters, let tap) = source {
            cache.packed.append(PackedWeights(filters.weight(tap), as: wanted))
          }
          return cache.packed[cache.packed.count - 1]
        }
      }
      if cache.plans.count > 48 { cache.plans = [:] }
      cache.plans[key] = plan
      return plan
    }
  }

  private func makePlan(
    _ band: ConvolutionBand, packed: (dnnl_memory_desc_t) -> PackedWeights
  ) -> ConvolutionPlan {
    var source = OneDNN.descriptor([1, inputs, band.inputRows, band.width], dnnl_nhwc)
    var filters = OneDNN.descriptor([outputs, inputs, height, width], dnnl_format_tag_any)
    var offsets = OneDNN.descriptor([outputs], dnnl_a)
    var target = OneDNN.descriptor([1, outputs, band.outputRows, band.outputWidth], dnnl_nhwc)
    var operation = dnnl_convolution_desc_t()
    let strides = [Int64(band.stride), Int64(band.stride)]
    let before = [Int64(band.padTop), Int64(band.padLeft)]
    let after = [Int64(band.padBottom), Int64(band.padRight)]
    OneDNN.check(
      dnnl_convolution_forward_desc_init(
        &operation, dnnl_forward_inference, dnnl_convolution_direct, &source, &filters, &offsets, &target,
        strides,
        before, after), "convolution descriptor")
    var attributes: dnnl_primitive_attr_t?
    var postOps: dnnl_post_ops_t?
    dnnl_primitive_attr_create(&attributes)
    dnnl_post_ops_create(&postOps)
    defer {
      dnnl_post_ops_destroy(postOps)
      dnnl_primitive_attr_destroy(attributes)
    }
    if band.addsSkip { dnnl_post_ops_append_sum(postOps, 1) }
    if band.activation == .relu { dnnl_post_ops_append_eltwise(postOps, 1, dnnl_eltwise_relu, 0, 0) }
    dnnl_primitive_attr_set_post_ops(attributes, postOps)
    dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user)
    var description: dnnl_primitive_desc_t?
    OneDNN.check(
      dnnl_primitive_desc_create(&description, &operation, attributes, OneDNN.engine, nil),
      "convolution primitive")
    defer { dnnl_primitive_desc_destroy(description) }
    let wanted = dnnl_primitive_desc_query_md(description, dnnl_query_weights_md, 0)!.pointee
    let weights = packed(wanted)
    let scratch = dnnl_primitive_desc_query_md(description, dnnl_query_scratchpad_md, 0)!.pointee
    var primitive: dnnl_primitive_t?
    OneDNN.check(dnnl_primitive_create(&primitive, description), "convolution primitive")
    return ConvolutionPlan(
      primitive: primitive, weights: weights, bias: bias, source: source, target: target, offsets: offsets,
      scratch: scratch)
  }
}

/// A ready primitive for one shape.
///
/// `@unchecked Sendable`: immutable after `init`; oneDNN primitives may run concurrently with separate
/// scratch memory.
final class ConvolutionPlan: @unchecked Sendable {
  private let primitive: dnnl_primitive_t?
  private let weights: PackedWeights
  private let bias: Tensor
  private let source: dnnl_memory_desc_t
  private let target: dnnl_memory_desc_t
  private let offsets: dnnl_memory_desc_t
  private let scratch: dnnl_memory_desc_t

  fileprivate init(
    primitive: dnnl_primitive_t?, weights: PackedWeights, bias: Tensor, source: dnnl_memory_desc_t,
    target: dnnl_memory_desc_t, offsets: dnnl_memory_desc_t, scratch: dnnl_memory_desc_t
  ) {
    self.primitive = primitive
    self.weights = weights
    self.bias = bias
    self.source = source
    self.target = target
    self.offsets = offsets
    self.scratch = scratch
  }

  deinit { dnnl_primitive_destroy(primitive) }

  /// Computes one band; `to` holds the skip values where the plan adds them.
  func run(from: UnsafePointer<Float>, to: UnsafeMutablePointer<Float>) {
    OneDNN.singleThreaded {
      var scratchLayout = scratch
      let scratchBytes = dnnl_memory_desc_get_size(&scratchLayout)
      let workspace = Storage(count: max(1, scratchBytes / MemoryLayout<Float>.stride + 1))
      let arguments: [(Int32, dnnl_memory_desc_t, UnsafeMutableRawPointer)] = [
        (DNNL_ARG_SRC, source, UnsafeMutableRawPointer(mutating: from)),
        (DNNL_ARG_WEIGHTS, weights.layout, UnsafeMutableRawPointer(weights.storage.floats)),
        (DNNL_ARG_BIAS, offsets, UnsafeMutableRawPointer(bias.base)),
        (DNNL_ARG_DST, target, UnsafeMutableRawPointer(to)),
        (DNNL_ARG_SCRATCHPAD, scratch, UnsafeMutableRawPointer(workspace.floats)),
      ]
      OneDNN.execute(primitive, arguments)
      keepAlive(workspace, weights, bias)
    }
  }
}

/// Filters in one of oneDNN's own layouts.
private final class PackedWeights: @unchecked Sendable {
  let layout: dnnl_memory_desc_t
  let storage: Storage

  /// From filters `[out, in, height, width]` with any strides.
  convenience init(_ weight: Tensor, as wanted: dnnl_memory_desc_t) {
    self.init(from: weight.base, OneDNN.descriptor(weight.shape, strides: weight.strides), as: wanted)
    keepAlive(weight)
  }

  /// From filters in another layout.
  convenience init(_ other: PackedWeights, as wanted: dnnl_memory_desc_t) {
    self.init(from: other.storage.floats, other.layout, as: wanted)
    keepAlive(other)
  }

  private init(
    from source: UnsafeMutablePointer<Float>, _ given: dnnl_memory_desc_t, as wanted: dnnl_memory_desc_t
  ) {
    var (from, target) = (given, wanted)
    layout = wanted
    storage = Storage(count: dnnl_memory_desc_get_size(&target) / MemoryLayout<Float>.stride + 16)
    var description: dnnl_primitive_desc_t?
    OneDNN.check(
      dnnl_reorder_primitive_desc_create(&description, &from, OneDNN.engine, &target, OneDNN.engine, nil),
      "weight reorder")
    var primitive: dnnl_primitive_t?
    OneDNN.check(dnnl_primitive_create(&primitive, description), "weight reorder")
    OneDNN.execute(
      primitive,
      [
        (DNNL_ARG_SRC, from, UnsafeMutableRawPointer(source)),
        (DNNL_ARG_DST, target, UnsafeMutableRawPointer(storage.floats)),
      ])
    dnnl_primitive_destroy(primitive)
    dnnl_primitive_desc_destroy(description)
  }

  func matches(_ other: dnnl_memory_desc_t) -> Bool {
    var (a, b) = (layout, other)
    return dnnl_memory_desc_equal(&a, &b) != 0
  }
}
