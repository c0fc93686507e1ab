/// Events and queries of `videolora`: draining, flushing, latency.

import CGStreamer
import DiffusionPipelines
import GStreamerKit
import Synchronization

/// How long a frame stays in the element.
struct Latency: Sendable {
  /// Frames held back at most.
  var frames = 0
  /// The longest time one window took, so far.
  var compute: GstClockTime = 0
  /// Whether upstream is live, so far as a LATENCY query has told.
  var isLive = false
  /// Of one frame; 0 when the frame rate is variable.
  var frameDuration: GstClockTime = 0

  /// Nanoseconds from a frame's arrival to its departure, in the worst case.
  var total: GstClockTime { GstClockTime(max(frames, 0)) * frameDuration + compute }
}

extension VideoLoRAElement {
  class func installEventMethods(_ klass: UnsafeMutablePointer<GstBaseTransformClass>) {
    klass.pointee.sink_event = { transform, event in
      guard let transform, let event, let half = swiftHalf(transform, as: VideoLoRAElement.self) else {
        return 0
      }
      guard half.isToForward(event) else { return 1 }
      let chainUp = parentClass(of: transform, as: GstBaseTransformClass.self)?.pointee.sink_event
      return chainUp?(transform, event) ?? 0
    }
    klass.pointee.query = { transform, direction, query in
      guard let transform, let query, let half = swiftHalf(transform, as: VideoLoRAElement.self) else {
        return 0
      }
      let chainUp = parentClass(of: transform, as: GstBaseTransformClass.self)?.pointee.query
      let answered = chainUp?(transform, direction, query) ?? 0
      if answered != 0, direction == GST_PAD_SRC, query.pointee.type == GST_QUERY_LATENCY {
        half.addLatency(query)
      }
      return answered
    }
  }

  /// Acts on an event before it goes on; false when it is kept for later.
  private func isToForward(_ event: UnsafeMutablePointer<GstEvent>) -> Bool {
    switch event.pointee.type {
    case GST_EVENT_FLUSH_START:
      // Comes on another thread, while the streaming thread may be computing.
      pauseRun()
    case GST_EVENT_FLUSH_STOP:
      dropPending()
      stream?.reset()
      resume()
    case GST_EVENT_EOS:
      _ = drain()
      postStats()
    case GST_EVENT_SEGMENT, GST_EVENT_STREAM_START:
      _ = drain()
    case GST_EVENT_CAPS:
      if changesCaps(event) { _ = drain() }
    default:
      let isSerialized =
        gst_event_type_get_flags(event.pointee.type).rawValue & GST_EVENT_TYPE_SERIALIZED.rawValue != 0
      if isSerialized, !pending.isEmpty {
        pending.append(.event(event))
        return false
      }
    }
    return true
  }

  private func changesCaps(_ event: UnsafeMutablePointer<GstEvent>) -> Bool {
    var caps: UnsafeMutablePointer<GstCaps>?
    gst_event_parse_caps(event, &caps)
    guard let current = gst_pad_get_current_caps(transform.pointee.sinkpad) else { return true }
    defer { gst_caps_unref(current) }
    return caps.map { gst_caps_is_equal(current, $0) == 0 } ?? true
  }

  /// Remembers what a frame's stay takes; posts LATENCY when that grows by a frame or the window changes.
  ///
  /// For a live source the computing time counts: without it every frame would be late at the sink.
  func noteLatency(frames: Int, compute: GstClockTime) {
    let hasChanged = latency.withLock { latency -> Bool in
      let before = latency
      latency.frames = frames
      // Steps of a frame's duration, so that ordinary jitter changes nothing.
      let step = max(latency.frameDuration, 1_000_000)
      if latency.isLive { latency.compute = max(latency.compute, (compute + step - 1) / step * step) }
      return latency.frames != before.frames || latency.compute != before.compute
    }
    if hasChanged {
      category.debug(self, "latency is \(latency.withLock { $0.total }) ns")
      postLatency()
    }
  }

  private func addLatency(_ query: UnsafeMutablePointer<GstQuery>) {
    var isLive: gboolean = 0
    var least: GstClockTime = 0
    var most: GstClockTime = 0
    gst_query_parse_latency(query, &isLive, &least, &most)
    let own = latency.withLock { latency in
      latency.isLive = isLive != 0
      return latency.total
    }
    gst_query_set_latency(query, isLive, least + own, most == gsw_clock_none ? most : most + own)
  }
}
