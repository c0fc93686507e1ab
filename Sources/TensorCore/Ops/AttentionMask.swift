import CKernels

/// What attention adds to its scores before the softmax, and which keys a query sees. All parts may be used together; a
/// query that sees no key gets zeros.
public struct AttentionMask: Sendable {
  /// `[Lq, Lk]` for all heads or `[H, Lq, Lk]`; -infinity hides a key.
  public var bias: Tensor?
  /// `[H, Lq + Lk - 1]`, one value per head and distance: query `i` and key `j` get the one at `j - i + Lq - 1`. Not
  /// together with `bias`.
  public var relativeBias: Tensor?
  /// `[Lk]`, added to all scores of a key. A key that stands for `n` equal ones has `log(n)`. Gradients reach it.
  public var keyBias: Tensor?
  /// Which frames see which keys.
  public var frames: FrameVisibility?

  public init(
    bias: Tensor? = nil, relativeBias: Tensor? = nil, keyBias: Tensor? = nil, frames: FrameVisibility? = nil
  ) {
    self.bias = bias
    self.relativeBias = relativeBias
    self.keyBias = keyBias
    self.frames = frames
  }
}

/// Keys that belong to one frame and are seen by the queries of that frame alone, such as control tokens that exist once
/// per latent frame.
public struct FrameVisibility: Sendable, Equatable {
  /// The frame of each query.
  public let queries: [Int32]
  /// The frame of each key; -1 for keys that everybody sees.
  public let keys: [Int32]
  /// Keys before this one are seen by everybody.
  let firstFramed: Int

  public init(queries: [Int], keys: [Int]) {
    self.queries = queries.map(Int32.init)
    self.keys = keys.map(Int32.init)
    firstFramed = keys.firstIndex { $0 >= 0 } ?? keys.count
  }

  /// `perFrame` tokens of each of `frames` frames, which see each other, and after them `extra` keys per frame, frame
  /// by frame, which only their frame sees.
  public init(frames: Int, perFrame: Int, extra: Int) {
    let tokens = (0..<frames).flatMap { [Int](repeating: $0, count: perFrame) }
    self.init(
      queries: tokens,
      keys: [Int](repeating: -1, count: tokens.count)
        + (0..<frames).flatMap { [Int](repeating: $0, count: extra) })
  }
}

/// A mask checked against the shapes of one attention, its tensors contiguous.
struct ScoreMask: Sendable {
  private let table: Tensor?
  private let headStride: Int
  private let rowStride: Int
  private let start: Int
  let keyBias: Tensor?
  let frames: FrameVisibility?
  private let keys: Int

  init(_ mask: AttentionMask?, heads: Int, queries: Int, keys: Int) {
    let (bias, relative) = (mask?.bias, mask?.relativeBias)
    precondition(
      bias == nil || bias?.shape == [queries, keys] || bias?.shape == [heads, queries, keys],
      "bias \(bias?.shape ?? []) of \(heads) heads, \(queries) x \(keys)")
    precondition(
      relative == nil || bias == nil && relative?.shape == [heads, queries + keys - 1],
      "relative bias \(relative?.shape ?? []) of \(heads) heads, \(queries) x \(keys)")
    table = (relative ?? bias)?.detached().contiguous()
    // The values of one query lie side by side in all; the next query's start one place earlier when relative.
    headStride = relative != nil ? queries + keys - 1 : bias?.rank == 3 ? queries * keys : 0
    rowStride = relative == nil ? keys : -1
    start = relative == nil ? 0 : queries - 1
    let (perKey, visibility) = (mask?.keyBias?.detached().contiguous(), mask?.frames)
    precondition(perKey == nil || perKey?.shape == [keys], "key bias \(perKey?.shape ?? []) of \(keys) keys")
    if let visibility {
      precondition(
        visibility.queries.count == queries && visibility.keys.count == keys,
        "frames of \(visibility.queries.count) queries, \(visibility.keys.count) keys, not \(queries), \(keys)"
      )
    }
    keyBias = perKey
    frames = visibility
    self.keys = keys
  }

  /// Puts the mask of the queries from `first` into a kernel's task, while `body` runs it.
  func with(_ task: CKAttention, head: Int, first: Int, _ body: (inout CKAttention) -> Void) {
    var task = task
    task.bias = table.map { UnsafePointer($0.base + start + head * headStride + first * rowStride) }
    task.bias_stride = rowStride
    task.key_bias = keyBias.map { UnsafePointer($0.base) }
    guard let frames else { return body(&task) }
    frames.queries.withUnsafeBufferPointer { queries in
      frames.keys.withUnsafeBufferPointer { keys in
        task.query_frames = queries.baseAddress.map { $0 + first }
        task.key_frames = keys.baseAddress
        task.first_framed = frames.firstFramed
        body(&task)
      }
    }
  }

  /// All that is added to the scores of one query, nil for nothing; `scratch` has room for one value per key.
  func row(_ query: Int, head: Int, scratch: UnsafeMutablePointer<Float>) -> UnsafePointer<Float>? {
    let bias = table.map { UnsafePointer($0.base + start + head * headStride + query * rowStride) }
    if keyBias == nil && frames == nil { return bias }
    for key in 0..<keys {
      var value = bias?[key] ?? 0
      if let keyBias { value += keyBias.base[key] }
      if let frames, frames.keys[key] >= 0, frames.keys[key] != frames.queries[query] { value = -.infinity }
      scratch[key] = value
    }
    return UnsafePointer(scratch)
  }
}
