/// `videolorasrc`: prompt in, video out.
///
///     gst-launch-1.0 videolorasrc prompt="…" num-clips=4 seed=7 ! videoconvert ! autovideosink
///
/// Each clip is made from noise with seed f(seed, clip). Without a caps filter the video has the model's trained size
/// at 8 frames per second.

import CGStreamer
import DiffusionPipelines
import GStreamerKit
import Synchronization
import TensorCore

// MARK: - Type

let videoLoRASourceType: GType = registerType(
  VideoLoRASource.self, name: "GstVideoLoRASrc", parent: gst_push_src_get_type(),
  interfaces: [childProxyInterface(), presetInterface()])

/// The Swift half of `videolorasrc`.
final class VideoLoRASource: DiffusionElement, @unchecked Sendable {
  private static let defaultRate: gint = 8
  /// What `create` returns once the ERROR is posted. For GST_FLOW_ERROR the base class would post a second, vaguer one
  /// in this element's name; both ways it ends the stream downstream.
  private static let failure = GST_FLOW_EOS

  // MARK: State

  // The streaming thread's own; also touched by start and stop, when there is no streaming thread.
  private var info: GstVideoInfo?
  private var ready: ArraySlice<Frame> = []
  private var clip = 0
  private var frameIndex: UInt64 = 0
  private var stages = StageSeconds()

  private var source: UnsafeMutablePointer<GstBaseSrc> { raw.assumingMemoryBound(to: GstBaseSrc.self) }

  // MARK: Properties, metadata, vmethods

  override class var properties: PropertyTable<Settings> { sourceProperties }

  override class func classInit(_ klass: UnsafeMutableRawPointer) {
    super.classInit(klass)
    let elementClass = klass.assumingMemoryBound(to: GstElementClass.self)
    gst_element_class_set_metadata(
      elementClass, "Video LoRA source", "Source/Video",
      "Make video from a prompt with a diffusion model and LoRA adapters (children lora_N, see loras)",
      "gst-videolora contributors")
    addTemplate(elementClass, "src", GST_PAD_SRC)

    let base = klass.assumingMemoryBound(to: GstBaseSrcClass.self)
    base.pointee.start = { source in
      guard let half = swiftHalf(source, as: VideoLoRASource.self) else { return 0 }
      half.forget()
      return 1
    }
    base.pointee.stop = { source in
      guard let half = swiftHalf(source, as: VideoLoRASource.self) else { return 0 }
      half.forget()
      return 1
    }
    base.pointee.unlock = { source in
      swiftHalf(source, as: VideoLoRASource.self)?.pauseRun()
      return 1
    }
    base.pointee.unlock_stop = { source in
      swiftHalf(source, as: VideoLoRASource.self)?.resume()
      return 1
    }
    base.pointee.fixate = { source, caps in
      guard let source, let caps, let half = swiftHalf(source, as: VideoLoRASource.self) else { return caps }
      let chosen = half.fixate(caps)
      let chainUp = parentClass(of: source, as: GstBaseSrcClass.self)?.pointee.fixate
      return chainUp?(source, chosen) ?? chosen
    }
    base.pointee.set_caps = { source, caps in
      guard let caps, let half = swiftHalf(source, as: VideoLoRASource.self) else { return 0 }
      var info = GstVideoInfo()
      guard gst_video_info_from_caps(&info, caps) != 0 else { return 0 }
      half.info = info
      return 1
    }
    base.pointee.decide_allocation = { source, query in
      guard let source, let query else { return 0 }
      addVideoPool(query)
      let chainUp = parentClass(of: source, as: GstBaseSrcClass.self)?.pointee.decide_allocation
      return chainUp?(source, query) ?? 0
    }
    klass.assumingMemoryBound(to: GstPushSrcClass.self).pointee.create = { source, output in
      guard let output, let half = swiftHalf(source, as: VideoLoRASource.self) else { return GST_FLOW_ERROR }
      return half.create(output)
    }
  }

  override func constructed() {
    gst_base_src_set_format(source, GST_FORMAT_TIME)
    gst_base_src_set_live(source, 0)
  }

  override func modelIsGone() { forget() }

  private func forget() {
    info = nil
    ready = []
    clip = 0
    frameIndex = 0
    stages = StageSeconds()
  }

  // MARK: Caps

  /// The model's size and rate where downstream leaves a choice. Negotiation is on the streaming thread, so it may wait
  /// for the model.
  private func fixate(_ caps: UnsafeMutablePointer<GstCaps>) -> UnsafeMutablePointer<GstCaps>? {
    guard
      let writable = gst_mini_object_make_writable(
        UnsafeMutableRawPointer(gst_caps_truncate(caps)).assumingMemoryBound(to: GstMiniObject.self))
    else { return nil }
    let caps = UnsafeMutableRawPointer(writable).assumingMemoryBound(to: GstCaps.self)
    guard let structure = gst_caps_get_structure(caps, 0) else { return caps }
    if case .ready(let loaded) = loader.waitUntilReady() {
      gst_structure_fixate_field_nearest_int(
        structure, "width", gint(clamping: loaded.model.info.trainedWidth))
      gst_structure_fixate_field_nearest_int(
        structure, "height", gint(clamping: loaded.model.info.trainedHeight))
    }
    gst_structure_fixate_field_nearest_fraction(structure, "framerate", Self.defaultRate, 1)
    return caps
  }

  // MARK: Data

  private func create(
    _ output: UnsafeMutablePointer<UnsafeMutablePointer<GstBuffer>?>
  ) -> GstFlowReturn {
    guard let info else { return GST_FLOW_NOT_NEGOTIATED }
    do {
      if ready.isEmpty {
        let settings = settings.withLock { $0 }
        guard settings.clipCount < 0 || clip < settings.clipCount else { return GST_FLOW_EOS }
        switch loader.waitUntilReady() {
        case .ready(let loaded): ready = try generate(loaded, settings, info)[...]
        case .interrupted: return GST_FLOW_FLUSHING
        case .failed, .loading: return Self.failure
        }
      }
      guard let frame = ready.popFirst() else { return GST_FLOW_EOS }
      return try fill(output, frame, info)
    } catch {
      if cancellation.isCancelled {
        closeClip(GST_PROGRESS_TYPE_CANCELED, "The clip was cancelled")
        return GST_FLOW_FLUSHING
      }
      fail(error)
      closeClip(GST_PROGRESS_TYPE_ERROR, "The clip failed")
      return Self.failure
    }
  }

  private func generate(_ loaded: LoadedModel, _ settings: Settings, _ info: GstVideoInfo) throws -> [Frame] {
    let count = settings.clipLength > 0 ? settings.clipLength : loaded.model.info.clipLength
    guard loaded.model.info.isClipLength(count) else {
      throw PipelineError.option(
        name: "clip-length", value: "\(count)",
        reason: "must be \(loaded.model.info.clipLengthRule) with this model")
    }
    if clip == 0 {
      postInfo(
        ElementError(
          .librarySettings,
          loaded.model.memoryForecast(frames: count, width: Int(info.width), height: Int(info.height))))
    }
    // [adapter][output frame]
    let strengths = loaded.children.map { child in
      (0..<count).map { child.half.strength(at: time(of: frameIndex + UInt64($0), info)) }
    }
    for warning in loaded.strengthWarnings(strengths) { postWarning(warning) }
    let frames = try TextToVideo.run(
      loaded.model, settings: settings.sampler, frames: count, width: Int(info.width),
      height: Int(info.height),
      clipIndex: clip, adapterStrengths: strengths, monitor: monitor, stages: &stages)
    clip += 1
    let stages = stages
    stats.withLock { $0.stages = stages }
    return frames
  }

  private func fill(
    _ output: UnsafeMutablePointer<UnsafeMutablePointer<GstBuffer>?>, _ frame: Frame, _ info: GstVideoInfo
  ) throws -> GstFlowReturn {
    var buffer: UnsafeMutablePointer<GstBuffer>?
    let allocate = parentClass(of: raw, as: GstBaseSrcClass.self)?.pointee.alloc
    let flow = allocate?(source, 0, guint(clamping: info.size), &buffer) ?? GST_FLOW_ERROR
    guard flow == GST_FLOW_OK, let buffer else { return flow }
    let result = BufferRef(taking: buffer)
    guard FrameView(buffer, info, writing: true)?.write(frame) == true else {
      throw ElementError(.resourceNoSpace, "no memory for an output buffer of \(frame.width)x\(frame.height)")
    }
    let start = time(of: frameIndex, info)
    buffer.pointee.pts = start
    buffer.pointee.duration = time(of: frameIndex + 1, info) - start
    buffer.pointee.offset = guint64(frameIndex)
    buffer.pointee.offset_end = guint64(frameIndex + 1)
    frameIndex += 1
    stats.withLock { $0.frames += 1 }
    output.pointee = result.retained()
    return GST_FLOW_OK
  }

  /// Start of a frame, from the frame rate; a variable rate counts as the default one.
  private func time(of index: UInt64, _ info: GstVideoInfo) -> GstClockTime {
    let (numerator, denominator) = info.fps_n > 0 ? (info.fps_n, info.fps_d) : (Self.defaultRate, 1)
    return gst_util_uint64_scale(
      guint64(index), guint64(denominator) * 1_000_000_000, guint64(max(numerator, 1)))
  }
}
