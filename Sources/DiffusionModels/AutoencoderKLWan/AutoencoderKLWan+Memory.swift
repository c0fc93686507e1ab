import TensorCore

extension AutoencoderKLWan {
  /// Floats that encoding and decoding hold at most beside the weights, for frames of this size and any number
  /// of them: what the causal layers keep of the past and the largest working set of a stage.
  ///
  /// Counted from the network's layers. Measured figures are 90 % of it at the size of Wan 2.1; tests hold them
  /// to two thirds at least and never more than all.
  public func peakFloats(height: Int, width: Int) -> (encode: Int, decode: Int) {
    let rows = (height + spatialRatio - 1) / spatialRatio
    let columns = (width + spatialRatio - 1) / spatialRatio
    // Pictures that wait for the rest of their group, joined and clamped: three copies of 3 channels.
    let pictures = 9 * temporalRatio * height * width
    return (
      encoder.footprint(rows: rows * spatialRatio, columns: columns * spatialRatio),
      decoder.footprint(rows: rows, columns: columns) + pictures
    )
  }
}

/// Counts the floats of a network that works on one frame at a time.
struct WanFootprint {
  /// Extent of the frames at the current stage.
  var rows: Int
  var columns: Int
  /// What causal layers keep between frames.
  private var kept = 0
  /// Frames that earlier stages made and that wait while the first of them goes on.
  private var waiting = 0
  private var most = 0

  init(rows: Int, columns: Int) {
    self.rows = rows
    self.columns = columns
  }

  /// The largest sum so far, as the buffer pool holds it: its size classes exceed the request by an eighth on
  /// average.
  var total: Int { (kept + most) / 8 * 9 }

  /// A causal layer keeps frames of so many channels.
  mutating func keep(frames: Int, channels: Int) { kept += frames * channels * rows * columns }

  /// Frames of so many channels wait until the later stages are done with the first.
  mutating func wait(frames: Int, channels: Int) { waiting += frames * channels * rows * columns }

  /// A stage works on so many channels at one time, and on other floats.
  mutating func use(channels: Int, others: Int = 0) {
    most = max(most, waiting + channels * rows * columns + others)
  }
}

extension WanNetwork {
  /// The floats held at most for frames that enter with this extent.
  func footprint(rows: Int, columns: Int) -> Int {
    var footprint = WanFootprint(rows: rows, columns: columns)
    for stage in stages { stage.count(&footprint) }
    return footprint.total
  }
}

extension WanStage {
  func count(_ footprint: inout WanFootprint) {
    switch self {
    case .convolution(let layer):
      layer.count(&footprint)
      footprint.use(channels: layer.inputs + layer.outputs, others: layer.scratchFloats(footprint))
    case .residual(let block): block.count(&footprint)
    case .attention(let block):
      // The frame, its norm, queries, keys and values as one and apart, and their mixture.
      let pixels = footprint.rows * footprint.columns
      footprint.use(channels: 9 * block.channels, others: min(pixels, 64) * pixels * EngineThreads.count)
    case .down(let layer): layer.count(&footprint)
    case .up(let layer): layer.count(&footprint)
    case .head(_, let layer):
      layer.count(&footprint)
      footprint.use(channels: 2 * layer.inputs + layer.outputs, others: layer.scratchFloats(footprint))
    }
  }
}

extension WanCausalConv3d {
  func count(_ footprint: inout WanFootprint) { footprint.keep(frames: 2, channels: inputs) }

  func scratchFloats(_ footprint: WanFootprint) -> Int {
    scratchFloats(rows: footprint.rows, columns: footprint.columns)
  }
}

extension WanResidualBlock {
  func count(_ footprint: inout WanFootprint) {
    let (inputs, outputs) = (conv1.inputs, conv1.outputs)
    conv1.count(&footprint)
    conv2.count(&footprint)
    // The frame, its norm and the first result; the frame, the second norm, the shortcut and the result.
    footprint.use(channels: 2 * inputs + outputs, others: conv1.scratchFloats(footprint))
    footprint.use(
      channels: inputs + 2 * outputs + (inputs == outputs ? 0 : outputs),
      others: conv2.scratchFloats(footprint))
  }
}

extension WanDownsample {
  func count(_ footprint: inout WanFootprint) {
    let pixels = footprint.rows * footprint.columns
    (footprint.rows, footprint.columns) = (footprint.rows / 2, footprint.columns / 2)
    footprint.use(channels: channels, others: pixels * channels)
    if isTemporal {
      footprint.keep(frames: 2, channels: channels)
      footprint.use(channels: 2 * channels)
    }
  }
}

extension WanUpsample {
  func count(_ footprint: inout WanFootprint) {
    if isTemporal { footprint.keep(frames: 2, channels: channels) }
    let frames = (isTemporal ? 2 : 1) * footprint.rows * footprint.columns * channels
    (footprint.rows, footprint.columns) = (2 * footprint.rows, 2 * footprint.columns)
    footprint.use(
      channels: channels / 2 * (isTemporal ? 2 : 1),
      others: frames + scratchFloats(rows: footprint.rows, columns: footprint.columns))
    // The frame that entered and the second result.
    if isTemporal {
      footprint.wait(frames: 1, channels: channels / 2)
      footprint.wait(frames: 1, channels: channels / 4)
    }
  }
}
