import CKernels

/// Filters of 3 by 3 for Winograd's F(4x4, 3x3): convolutions with a stride of 1 in a quarter of the
/// multiplications, summed over the frames of a window while they are transformed.
///
/// The rounding error is about six times that of the direct sum (see `winograd.inc`).
///
/// `@unchecked Sendable`: its storage is written once, in `init`.
final class WinogradFilters: @unchecked Sendable {
  let inputs: Int
  let outputs: Int
  let taps: Int
  private let bias: Tensor
  /// `[panel][tap][channel][9][16]`, with zeros where channels or outputs are missing; in `format`.
  private let plain: Storage
  /// `.float32`, or the half-width format of the numbers as they came, which holds them all exactly.
  private let format: DType
  /// As `winograd_filters` makes them, `[panel][tap]`: kept where it is small, made for each block of tiles where it is not.
  private let transformed: Storage?

  static let panel = 16
  /// Beyond this many floats the transformed filters, four times as large as the plain ones, cost more than
  /// making them again.
  static let keptFloats = 3 << 20

  /// Whether filters of this extent gain from it: with few channels the transforms outweigh the products.
  static func suits(inputs: Int, outputs: Int, height: Int, width: Int, taps: Int = 1) -> Bool {
    height == 3 && width == 3 && inputs >= 16 && outputs >= 16 && taps <= Int(CK_WINOGRAD_TAPS)
  }

  private var channels: Int { (inputs + 7) / 8 * 8 }
  private var panels: Int { (outputs + Self.panel - 1) / Self.panel }

  /// - Parameter taps: `[out, in, 3, 3]` each, for the newest frame first.
  init(taps: [Tensor], bias: Tensor?) {
    precondition((1...Int(CK_WINOGRAD_TAPS)).contains(taps.count), "\(taps.count) taps")
    (outputs, inputs, self.taps) = (taps[0].shape[0], taps[0].shape[1], taps.count)
    self.bias = bias?.contiguous() ?? Tensor.zeros([taps[0].shape[0]])
    format = .float32
    let channels = (inputs + 7) / 8 * 8
    let panels = (outputs + Self.panel - 1) / Self.panel
    let size = channels * 9 * Self.panel
    let plain = Storage(count: panels * taps.count * size)
    for (tap, weight) in taps.enumerated() {
      let source = weight.contiguous()
      Self.arrange(
        UnsafePointer(source.base), plain.floats + tap * size, step: taps.count * size, inputs: inputs,
        outputs: outputs)
      keepAlive(source)
    }
    let step = Int(ck_winograd_filters(inputs))
    let count = panels * taps.count * step
    transformed = count <= Self.keptFloats ? Storage(count: count) : nil
    if let transformed {
      parallelFor(panels * taps.count) { index in
        kernels.winograd_filters(
          transformed.floats + index * step, plain.floats + index * size, channels)
      }
    }
    self.plain = plain
  }

  /// Large filters `[out, in, 3, 3]` of half-width numbers, which stay so.
  init(halves source: Storage, _ format: DType, inputs: Int, outputs: Int, bias: Tensor?) {
    (self.inputs, self.outputs, taps, self.format) = (inputs, outputs, 1, format)
    self.bias = bias?.contiguous() ?? Tensor.zeros([outputs])
    let size = (inputs + 7) / 8 * 8 * 9 * Self.panel
    plain = Storage(count: ((outputs + Self.panel - 1) / Self.panel * size + 1) / 2)
    transformed = nil
    let target = UnsafeMutableRawPointer(plain.floats).assumingMemoryBound(to: UInt16.self)
    Self.arrange(
      UnsafeRawPointer(source.floats).assumingMemoryBound(to: UInt16.self), target, step: size,
      inputs: inputs, outputs: outputs)
    keepAlive(source, plain)
  }

  /// Whether filters are too large to be kept transformed.
  static func isLarge(inputs: Int, outputs: Int) -> Bool {
    (outputs + panel - 1) / panel * Int(ck_winograd_filters(inputs)) > keptFloats
  }

  /// Filters `[out, in, 9]` to panels `[channel][9][16]`, `step` numbers apart; zeros where channels or outputs are missing.
  private static func arrange<Number: Numeric>(
    _ source: UnsafePointer<Number>, _ target: UnsafeMutablePointer<Number>, step: Int, inputs: Int,
    outputs: Int
  ) {
    let (size, used) = ((inputs + 7) / 8 * 8 * 9, inputs * 9)
    // By panels: two threads never write to one cache line.
    parallelFor((outputs + panel - 1) / panel) { index in
      let to = target + index * step
      let lanes = min(panel, outputs - index * panel)
      let from = source + index * panel * used
      for place in 0..<size {
        for lane in 0..<panel {
          to[place * panel + lane] = place < used && lane < lanes ? from[lane * used + place] : 0
        }
      }
    }
  }

  /// The filters of one tap as `[out, in, 3, 3]`.
  func weight(_ tap: Int) -> Tensor {
    let result = Tensor(uninitialized: [outputs, inputs, 3, 3])
    let size = channels * 9 * Self.panel
    let panel = Storage(count: size)
    for first in stride(from: 0, to: outputs, by: Self.panel) {
      let at = (first / Self.panel * taps + tap) * size
      if format == .float32 {
        panel.floats.update(from: plain.floats + at, count: size)
      } else {
        HalfConversion.widen(UnsafeRawPointer(plain.floats) + 2 * at, format, panel.floats, size)
      }
      for output in first..<min(outputs, first + Self.panel) {
        let (from, to) = (panel.floats + (output - first), result.base + output * inputs * 9)
        for index in 0..<inputs * 9 { to[index] = from[index * Self.panel] }
      }
    }
    keepAlive(plain, panel)
    return result
  }

  /// Whether a result of this extent is worth it: tiles are 4 by 4 and small pictures leave much of them empty.
  func suits(rows: Int, columns: Int) -> Bool {
    (rows + 3) / 4 * ((columns + 3) / 4) * 16 <= 2 * rows * columns && rows * columns >= 16
  }

  /// Tiles that one task works on, by the shape alone: many enough that filters which come from memory or are
  /// made anew are used often, few enough that small pictures occupy several threads.
  private func block(_ tiles: Int) -> Int {
    let (least, most) = transformed == nil ? (32, 64) : (8, 24)
    return max(min(least, tiles), min(most, (tiles + 3) / 4))
  }

  /// Floats of scratch memory that each thread takes for a result of one picture of this extent.
  func scratchFloats(rows: Int, columns: Int) -> Int {
    let tiles = (rows + 3) / 4 * ((columns + 3) / 4)
    return Int(ck_winograd_scratch(inputs, taps, transformed == nil ? 0 : 1, block(tiles)))
  }

  /// `result = activation(sum(conv(frames)) + bias (+ skip))`.
  ///
  /// - Parameters:
  ///   - frames: `[N, H, W, inputs]` each, contiguous, newest first, at most `taps` of them.
  ///   - scale: 2 where every pixel stands for 2 by 2, else 1.
  ///   - top: rows of zeros above the pictures.
  ///   - left: columns of zeros to their left.
  ///   - result: `[N, rows, columns, outputs]`.
  func run(
    _ frames: [Tensor], scale: Int, top: Int, left: Int, activation: ConvolutionActivation,
    adding skip: Tensor?,
    result: Tensor, cancellation: Cancellation?
  ) {
    let (pictures, rows, columns) = (result.shape[0], result.shape[1], result.shape[2])
    // Blocks run on through the pictures: where these are small, one block of filters serves many.
    let tiles = pictures * ((rows + 3) / 4) * ((columns + 3) / 4)
    let block = block(tiles)
    let blocks = (tiles + block - 1) / block
    // Few blocks are cut by their outputs too.
    let parts = blocks >= 4 ? 1 : min(panels, (4 + blocks - 1) / blocks)
    let table = kernels
    parallelFor(blocks * parts) { task in
      if cancellation?.isCancelled == true { return }
      let (first, part) = (task / parts * block, task % parts)
      var job = CKWinograd()
      withUnsafeMutableBytes(of: &job.frames) { bytes in
        let pointers = bytes.bindMemory(to: UnsafePointer<Float>?.self)
        for (index, frame) in frames.enumerated() { pointers[index] = UnsafePointer(frame.base) }
      }
      (job.frame_count, job.height, job.width, job.inputs) = (
        frames.count, frames[0].shape[1], frames[0].shape[2], inputs
      )
      (job.scale, job.top, job.left) = (scale, top, left)
      job.filters = UnsafeRawPointer((transformed ?? plain).floats)
      (job.taps, job.is_transformed) = (taps, transformed == nil ? 0 : 1)
      job.format =
        format == .float32 ? Int32(CK_F32) : format == .float16 ? Int32(CK_F16) : Int32(CK_BF16)
      job.bias = UnsafePointer(bias.base)
      job.skip = skip.map { UnsafePointer($0.base) }
      job.relu = activation == .relu ? 1 : 0
      (job.result, job.rows, job.columns, job.outputs) = (result.base, rows, columns, outputs)
      job.first_output = panels * part / parts * Self.panel
      job.last_output = min(outputs, panels * (part + 1) / parts * Self.panel)
      let count = min(block, tiles - first)
      let scratch = Storage(
        count: ck_winograd_scratch(inputs, frames.count, transformed == nil ? 0 : 1, count))
      withUnsafePointer(to: job) { table.winograd($0, first, count, scratch.floats) }
      keepAlive(scratch)
    }
    keepAlive(frames, skip, bias)
  }
}
