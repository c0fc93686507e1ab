import TensorCore

/// Video to video over any number of frames: N pushed, N returned, in order.
///
/// Frames are gathered into windows of `clipLength`; each shares `overlap` frames with the one before, and
/// there the results are cross-faded. The last window is filled by repeating its last frame and cut back.
/// Memory does not grow with the length of the stream.
public struct VideoStream: Sendable {
  private let model: VideoModel
  /// Frames of a window.
  public let clipLength: Int
  private let overlap: Int
  /// Source frames of the window being gathered; the first `kept` were in the window before.
  private var window: [Entry] = []
  private var kept = 0
  /// Results of the last window for the kept frames, waiting for their cross-fade.
  private var tail: [Frame] = []
  private var framesSeen = 0
  private var clip = 0
  private var cached: (settings: SamplerSettings, sampler: ClipSampler)?
  /// Seconds by stage since the stream was made.
  public private(set) var stages = StageSeconds()

  private struct Entry: Sendable {
    let frame: Frame
    let strength: Float
    let adapterStrengths: [Float]
    let index: Int
  }

  /// - Parameters:
  ///   - clipLength: frames per window, 0 for the model's own.
  ///   - overlap: frames shared with the window before, -1 for the model's own; less than `clipLength`.
  public init(model: VideoModel, clipLength: Int = 0, overlap: Int = -1) throws(PipelineError) {
    let length = clipLength > 0 ? clipLength : model.info.clipLength
    let shared = overlap >= 0 ? overlap : min(model.info.overlap, length - 1)
    guard (1...1024).contains(length) else {
      throw .option(name: "clip-length", value: "\(clipLength)", reason: "must lie in 1…1024")
    }
    guard model.info.isClipLength(length) else {
      throw .option(
        name: "clip-length", value: "\(length)",
        reason: "must be \(model.info.clipLengthRule) with this model")
    }
    guard shared < length else {
      throw .option(name: "overlap", value: "\(shared)", reason: "must be less than clip-length \(length)")
    }
    self.model = model
    self.clipLength = length
    self.overlap = shared
  }

  /// Frames pushed and not returned yet.
  public var pending: Int { window.count }

  /// The most frames that are held back before one comes out.
  public var latencyFrames: Int { clipLength - 1 }

  /// Takes one frame; returns those that are finished.
  /// - Parameters:
  ///   - strength: 0 returns this frame untouched, above 0 up to 1 transforms it; a window runs with the mean of its
  ///     frames that are not 0.
  ///   - adapterStrengths: one value per adapter of the model, for this frame.
  /// - Throws: `PipelineError`, `Cancelled` and what loading embeddings throws. After an error the stream is
  ///   empty.
  public mutating func push(
    _ frame: Frame, strength: Float, adapterStrengths: [Float], settings: SamplerSettings,
    monitor: RunMonitor = RunMonitor()
  ) throws -> [Frame] {
    guard strength >= 0, strength <= 1 else {
      throw PipelineError.option(name: "strength", value: "\(strength)", reason: "must lie in 0…1")
    }
    if let first = window.first?.frame, first.width != frame.width || first.height != frame.height {
      throw PipelineError.option(
        name: "size", value: "\(frame.width)x\(frame.height)",
        reason:
          "differs from the \(first.width)x\(first.height) of the clip being gathered; drain the stream first"
      )
    }
    window.append(
      Entry(frame: frame, strength: strength, adapterStrengths: adapterStrengths, index: framesSeen))
    framesSeen += 1
    guard window.count == clipLength else { return [] }
    let results = try finishWindow(settings, monitor)
    // The frames shared with the next window wait for it.
    let ready = Array(results.dropLast(overlap))
    tail = Array(results.suffix(overlap))
    window.removeFirst(clipLength - overlap)
    kept = overlap
    stages.frames += ready.count
    return ready
  }

  /// Returns all frames that are held back, for the end of a stream or a change of its format. The stream can
  /// go on.
  public mutating func drain(settings: SamplerSettings, monitor: RunMonitor = RunMonitor()) throws -> [Frame]
  {
    defer { forget() }
    let results = window.count > kept ? try finishWindow(settings, monitor) : tail
    stages.frames += results.count
    return results
  }

  /// Drops everything that is held back and starts counting frames and clips anew.
  public mutating func reset() {
    forget()
    framesSeen = 0
    clip = 0
  }

  private mutating func forget() {
    window = []
    tail = []
    kept = 0
  }

  /// Runs the gathered window and cross-fades its shared frames: one result per gathered frame.
  private mutating func finishWindow(_ settings: SamplerSettings, _ monitor: RunMonitor) throws -> [Frame] {
    do {
      var results = try transformed(settings, monitor)
      if kept > 0 {
        let match = WindowMatch(old: tail[..<kept], new: results[..<kept])
        for index in results.indices {
          let weight = 1 - Float(max(0, index - kept + 1)) / Float(clipLength - kept + 1)
          results[index] = match.applied(to: results[index], weight: weight)
        }
      }
      for index in 0..<kept {
        let weight = Float(index + 1) / Float(kept + 1)
        results[index] = Frame.blend(tail[index], results[index], weight: weight)
      }
      for (index, entry) in window.enumerated() where entry.strength == 0 { results[index] = entry.frame }
      return results
    } catch {
      forget()
      throw error
    }
  }

  private mutating func transformed(_ settings: SamplerSettings, _ monitor: RunMonitor) throws -> [Frame] {
    let active = window.map(\.strength).filter { $0 > 0 }
    guard !active.isEmpty else { return window.map(\.frame) }
    let strength = active.reduce(0, +) / Float(active.count)
    var padded = window
    if let last = window.last { padded += [Entry](repeating: last, count: clipLength - window.count) }
    let sampler = try sampler(for: settings, monitor)
    let adapters = (0..<model.adapters.count).map { adapter in
      padded.map { adapter < $0.adapterStrengths.count ? $0.adapterStrengths[adapter] : 1 }
    }
    defer { clip += 1 }
    let results = try VideoToVideo.run(
      model, sampler: sampler, frames: padded.map(\.frame), strength: strength, adapterStrengths: adapters,
      noise: StreamNoise(seed: settings.seed), firstFrame: window[0].index, clip: clip, monitor: monitor,
      stages: &stages)
    return Array(results.prefix(window.count))
  }

  private mutating func sampler(for settings: SamplerSettings, _ monitor: RunMonitor) throws -> ClipSampler {
    if let cached, cached.settings == settings { return cached.sampler }
    let sampler = try ClipSampler(model, settings: settings, monitor: monitor, stages: &stages)
    cached = (settings, sampler)
    return sampler
  }
}
