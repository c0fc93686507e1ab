/// `videolora`: video in, video out, changed by a diffusion model and its adapters.
///
///     gst-launch-1.0 filesrc location=in.mp4 ! decodebin ! videoconvert ! videoscale \
///       ! video/x-raw,format=RGB,width=96,height=64 ! videolora prompt="…" strength=0.5 \
///         loras='<style.safetensors>' lora_0::strength=0.8 \
///       ! videoconvert ! autovideosink
///
/// N frames in are N frames out, with the timestamps, flags and metas they came with. Frames are held until a window is
/// full; end of stream, a new segment or new caps give the rest at once.
///
/// The base is GstBaseTransform (docs/element-base.md says why): input arrives in `submit_input_buffer`, and since one
/// window gives many frames, output leaves by `gst_pad_push` from there; `generate_output` has nothing to add.

import CGStreamer
import DiffusionPipelines
import GStreamerKit
import Synchronization
import TensorCore

// MARK: - Type

let videoLoRAType: GType = registerType(
  VideoLoRAElement.self, name: "GstVideoLoRA", parent: gst_base_transform_get_type(),
  interfaces: [childProxyInterface(), presetInterface()])

/// The Swift half of `videolora`.
final class VideoLoRAElement: DiffusionElement, @unchecked Sendable {
  // MARK: State

  /// What is waiting to leave, in stream order.
  enum Pending {
    /// The description (timestamps, flags, metas) of a frame the engine holds.
    case frame(BufferRef)
    /// A serialized event that must not overtake the frames before it.
    case event(UnsafeMutablePointer<GstEvent>)
  }

  // The streaming thread's own; also touched by start and stop, when there is no streaming thread.
  var stream: VideoStream?
  var loaded: LoadedModel?
  var pending: [Pending] = []
  var info: GstVideoInfo?
  var finishedStages = StageSeconds()
  var warnedSize = false

  let latency = Mutex(Latency())

  var transform: UnsafeMutablePointer<GstBaseTransform> { raw.assumingMemoryBound(to: GstBaseTransform.self) }

  // MARK: Properties, metadata, vmethods

  override class var properties: PropertyTable<Settings> { elementProperties }

  override class func classInit(_ klass: UnsafeMutableRawPointer) {
    super.classInit(klass)
    let elementClass = klass.assumingMemoryBound(to: GstElementClass.self)
    gst_element_class_set_metadata(
      elementClass, "Video LoRA", "Filter/Effect/Video",
      "Change video with a diffusion model and LoRA adapters (children lora_N, see loras)",
      "gst-videolora contributors")
    addTemplate(elementClass, "sink", GST_PAD_SINK)
    addTemplate(elementClass, "src", GST_PAD_SRC)
    installCapsMethods(klass.assumingMemoryBound(to: GstBaseTransformClass.self))
    installEventMethods(klass.assumingMemoryBound(to: GstBaseTransformClass.self))
    installDataMethods(klass.assumingMemoryBound(to: GstBaseTransformClass.self))
  }

  override func constructed() {
    // A class without transform methods starts in passthrough.
    gst_base_transform_set_passthrough(transform, 0)
    gst_base_transform_set_in_place(transform, 0)
  }

  private class func installDataMethods(_ klass: UnsafeMutablePointer<GstBaseTransformClass>) {
    klass.pointee.submit_input_buffer = { transform, isDiscont, input in
      guard let transform, let input, let half = swiftHalf(transform, as: VideoLoRAElement.self) else {
        return GST_FLOW_ERROR
      }
      let submit = parentClass(of: transform, as: GstBaseTransformClass.self)?.pointee.submit_input_buffer
      let flow = submit?(transform, isDiscont, input) ?? GST_FLOW_ERROR
      guard flow == GST_FLOW_OK, let buffer = transform.pointee.queued_buf else { return flow }
      transform.pointee.queued_buf = nil
      return half.receive(BufferRef(taking: buffer))
    }
    klass.pointee.generate_output = { _, output in
      output?.pointee = nil
      return GST_FLOW_OK
    }
    klass.pointee.start = { transform in
      guard let half = swiftHalf(transform, as: VideoLoRAElement.self) else { return 0 }
      half.forgetStream()
      return 1
    }
    klass.pointee.stop = { transform in
      guard let half = swiftHalf(transform, as: VideoLoRAElement.self) else { return 0 }
      half.forgetStream()
      return 1
    }
  }

  // MARK: Model

  override func modelIsReady(_ loaded: LoadedModel) {
    let info = loaded.model.info
    let settings = settings.withLock { $0 }
    // The stream says the exact number once it exists.
    noteLatency(frames: (settings.clipLength > 0 ? settings.clipLength : info.clipLength) - 1, compute: 0)
  }

  override func modelIsGone() {
    forgetStream()
    loaded = nil
  }

  func forgetStream() {
    dropPending()
    stream = nil
    loaded = nil
    info = nil
    warnedSize = false
    finishedStages = StageSeconds()
    latency.withLock { $0 = Latency() }
  }

  func dropPending() {
    for case .event(let event) in pending { gst_event_unref(event) }
    pending = []
  }

  // MARK: Data

  /// Takes one frame; pushes what is finished.
  private func receive(_ buffer: BufferRef) -> GstFlowReturn {
    if hasFailed.load(ordering: .acquiring) { return GST_FLOW_ERROR }
    let streamTime = streamTime(of: buffer)
    if streamTime != gsw_clock_none { gst_object_sync_values(gstObject, streamTime) }
    let settings = settings.withLock { $0 }

    // An untouched frame that nothing waits before leaves as it is: same buffer, no latency, no model.
    if settings.strength == 0, pending.isEmpty { return push(buffer.retained()) }

    do {
      guard let info else { throw ElementError(.coreNegotiation, "no video format was negotiated") }
      guard let model = try model(for: settings) else { return push(buffer.retained()) }
      if stream == nil { try openStream(model, info, settings) }
      guard let frame = FrameView(buffer.raw, info, writing: false)?.read() else {
        throw ElementError(.streamFormat, "a buffer does not hold a frame of the negotiated caps")
      }
      guard let description = BufferRef.description(of: buffer.raw) else {
        throw ElementError(.resourceNoSpace, "no memory for a buffer")
      }
      pending.append(.frame(description))
      category.trace(self, "frame at \(buffer.pts) ns, \(pending.count) held")
      let strengths = model.children.map { $0.half.strength(at: streamTime) }
      for warning in model.strengthWarnings(strengths.map { [$0] }) { postWarning(warning) }
      let results = try timed {
        try stream?.push(
          frame, strength: Float(settings.strength), adapterStrengths: strengths, settings: settings.sampler,
          monitor: monitor) ?? []
      }
      guard !results.isEmpty else { return GST_FLOW_OK }
      let flow = emit(results)
      return flow == GST_FLOW_OK ? try takeNewAdapters(settings) : flow
    } catch {
      return stopped(by: error)
    }
  }

  /// Pushes every frame the engine holds back, before something that ends the run of frames.
  func drain() -> GstFlowReturn {
    guard stream != nil, !hasFailed.load(ordering: .acquiring) else { return emit([]) }
    do {
      let sampler = settings.withLock { $0 }.sampler
      return emit(try timed { try stream?.drain(settings: sampler, monitor: monitor) ?? [] })
    } catch {
      return stopped(by: error)
    }
  }

  /// The model to run, nil while frames pass untouched; waits for it where that is asked for.
  private func model(for settings: Settings) throws -> LoadedModel? {
    if let loaded { return loaded }
    let outcome = settings.whileLoading == .hold ? loader.waitUntilReady() : loader.current()
    switch outcome {
    case .ready(let model):
      loaded = model
      return model
    case .loading: return nil
    case .interrupted: throw Interrupted()
    // The loading thread has posted why.
    case .failed: throw AlreadyPosted()
    }
  }

  /// At a clip border: goes on with the adapters that were loaded meanwhile.
  private func takeNewAdapters(_ settings: Settings) throws -> GstFlowReturn {
    switch loader.current() {
    case .ready(let newest) where newest !== loaded:
      category.info(self, "going on with \(newest.children.count) adapters")
      let flow = drain()
      closeStream()
      loaded = newest
      return flow
    case .failed: throw AlreadyPosted()
    default: return GST_FLOW_OK
    }
  }

  private func openStream(_ model: LoadedModel, _ info: GstVideoInfo, _ settings: Settings) throws {
    let (width, height) = (Int(info.width), Int(info.height))
    let modelInfo = model.model.info
    if !warnedSize, modelInfo.isFarFromTrained(width: width, height: height) {
      warnedSize = true
      postWarning(
        ElementError(
          .streamFormat,
          "\(width)x\(height) is far from \(modelInfo.trainedWidth)x\(modelInfo.trainedHeight), the size that "
            + "\(modelInfo.name) was trained for; put videoscale and a caps filter before videolora"))
    }
    let opened = try VideoStream(
      model: model.model, clipLength: settings.clipLength, overlap: settings.overlap)
    stream = opened
    postInfo(
      ElementError(
        .librarySettings,
        model.model.memoryForecast(frames: opened.clipLength, width: width, height: height)))
    category.debug(self, "windows hold back up to \(opened.latencyFrames) frames")
    noteLatency(frames: opened.latencyFrames, compute: 0)
  }

  /// Ends the engine's stream; the next frame starts another one.
  func closeStream() {
    guard let stream else { return }
    finishedStages = finishedStages.adding(stream.stages)
    self.stream = nil
  }

  private func timed(_ run: () throws -> [Frame]) rethrows -> [Frame] {
    let before = g_get_monotonic_time()
    let results = try run()
    let stages = finishedStages.adding(stream?.stages ?? StageSeconds())
    stats.withLock { $0.stages = stages }
    if !results.isEmpty {
      noteLatency(
        frames: stream?.latencyFrames ?? 0, compute: GstClockTime(g_get_monotonic_time() - before) * 1000)
    }
    return results
  }

  /// The flow return for an error that ended a run; posts it unless it was asked for.
  private func stopped(by error: any Error) -> GstFlowReturn {
    stream?.reset()
    if error is Interrupted || cancellation.isCancelled {
      closeClip(GST_PROGRESS_TYPE_CANCELED, "The clip was cancelled")
      return GST_FLOW_FLUSHING
    }
    if !(error is AlreadyPosted) {
      fail(error)
      closeClip(GST_PROGRESS_TYPE_ERROR, "The clip failed")
    }
    return GST_FLOW_ERROR
  }

  // MARK: Output

  /// Pushes finished frames in the buffers that describe them, and the events that waited between them.
  private func emit(_ frames: [Frame]) -> GstFlowReturn {
    for frame in frames {
      forwardEvents()
      guard case .frame(let description)? = pending.first else { break }
      pending.removeFirst()
      guard let buffer = makeBuffer(frame, description) else {
        fail(
          ElementError(.resourceNoSpace, "no memory for an output buffer of \(frame.width)x\(frame.height)"))
        return GST_FLOW_ERROR
      }
      let flow = push(buffer)
      guard flow == GST_FLOW_OK else {
        category.debug(self, "downstream says \(String(cString: gst_flow_get_name(flow)))")
        dropPending()
        stream?.reset()
        return flow
      }
    }
    forwardEvents()
    return GST_FLOW_OK
  }

  private func forwardEvents() {
    while case .event(let event)? = pending.first {
      pending.removeFirst()
      gst_pad_push_event(transform.pointee.srcpad, event)
    }
  }

  private func makeBuffer(_ frame: Frame, _ description: BufferRef) -> UnsafeMutablePointer<GstBuffer>? {
    guard let info, let buffer = allocate(info) else { return nil }
    let result = BufferRef(taking: buffer)
    guard FrameView(buffer, info, writing: true)?.write(frame) == true else { return nil }
    result.copyDescription(from: description.raw)
    return result.retained()
  }

  private func push(_ buffer: UnsafeMutablePointer<GstBuffer>) -> GstFlowReturn {
    stats.withLock { $0.frames += 1 }
    return gst_pad_push(transform.pointee.srcpad, buffer)
  }

  private func streamTime(of buffer: BufferRef) -> GstClockTime {
    guard buffer.pts != gsw_clock_none, transform.pointee.segment.format == GST_FORMAT_TIME else {
      return gsw_clock_none
    }
    return gst_segment_to_stream_time(&transform.pointee.segment, GST_FORMAT_TIME, guint64(buffer.pts))
  }
}

/// A wait ended because the element is flushing or stopping.
private struct Interrupted: Error {}

/// The cause is on the bus already.
private struct AlreadyPosted: Error {}

extension StageSeconds {
  fileprivate func adding(_ other: StageSeconds) -> StageSeconds {
    var sum = self
    sum.text += other.text
    sum.encode += other.encode
    sum.denoise += other.denoise
    sum.decode += other.decode
    sum.clips += other.clips
    sum.frames += other.frames
    sum.steps += other.steps
    sum.cachedSteps += other.cachedSteps
    sum.peakBytes = max(peakBytes, other.peakBytes)
    return sum
  }
}
