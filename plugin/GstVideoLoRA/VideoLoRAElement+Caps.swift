/// Caps and buffers of `videolora`: packed RGB of any size, the same on both sides.

import CGStreamer
import GStreamerKit
import Synchronization

/// What both elements speak. System memory only; colorimetry, pixel aspect ratio and the like pass through.
let rawVideoCaps =
  "video/x-raw, format=(string){ RGB, RGBx }, width=(int)[ 16, 2147483647 ], height=(int)[ 16, 2147483647 ], "
  + "framerate=(fraction)[ 0/1, 2147483647/1 ]"

func addTemplate(
  _ klass: UnsafeMutablePointer<GstElementClass>, _ name: String, _ direction: GstPadDirection
) {
  let caps = gst_caps_from_string(rawVideoCaps)
  gst_element_class_add_pad_template(klass, gst_pad_template_new(name, direction, GST_PAD_ALWAYS, caps))
  gst_caps_unref(caps)
}

extension VideoLoRAElement {
  class func installCapsMethods(_ klass: UnsafeMutablePointer<GstBaseTransformClass>) {
    klass.pointee.set_caps = { transform, input, _ in
      guard let input, let half = swiftHalf(transform, as: VideoLoRAElement.self) else { return 0 }
      return half.setFormat(input) ? 1 : 0
    }
    klass.pointee.get_unit_size = { _, caps, size in
      var info = GstVideoInfo()
      guard let caps, gst_video_info_from_caps(&info, caps) != 0 else { return 0 }
      size?.pointee = info.size
      return 1
    }
    klass.pointee.decide_allocation = { transform, query in
      guard let transform, let query else { return 0 }
      addVideoPool(query)
      let chainUp = parentClass(of: transform, as: GstBaseTransformClass.self)?.pointee.decide_allocation
      return chainUp?(transform, query) ?? 0
    }
    klass.pointee.propose_allocation = { transform, decision, query in
      guard let transform, let query else { return 0 }
      let chainUp = parentClass(of: transform, as: GstBaseTransformClass.self)?.pointee.propose_allocation
      guard chainUp?(transform, decision, query) != 0 else { return 0 }
      // Frames are copied on arrival, so upstream may use any pool and any stride.
      gst_query_add_allocation_meta(query, gst_video_meta_api_get_type(), nil)
      return 1
    }
  }

  private func setFormat(_ caps: UnsafeMutablePointer<GstCaps>) -> Bool {
    var parsed = GstVideoInfo()
    guard gst_video_info_from_caps(&parsed, caps) != 0 else { return false }
    if let old = info, gst_video_info_is_equal(&parsed, [old]) == 0 {
      // The event handler has drained the frames of the old format.
      closeStream()
      warnedSize = false
    }
    info = parsed
    category.info(self, "\(parsed.width)x\(parsed.height) at \(parsed.fps_n)/\(parsed.fps_d) fps")
    let (numerator, denominator) = (parsed.fps_n, parsed.fps_d)
    latency.withLock {
      $0.frameDuration =
        numerator > 0 && denominator > 0
        ? gst_util_uint64_scale_int(1_000_000_000, denominator, numerator) : 0
    }
    return true
  }

  /// A buffer for one output frame, from the negotiated pool where there is one.
  func allocate(_ info: GstVideoInfo) -> UnsafeMutablePointer<GstBuffer>? {
    guard let pool = gst_base_transform_get_buffer_pool(transform) else {
      return gst_buffer_new_allocate(nil, info.size, nil)
    }
    defer { gst_object_unref(pool) }
    var buffer: UnsafeMutablePointer<GstBuffer>?
    guard gst_buffer_pool_set_active(pool, 1) != 0,
      gst_buffer_pool_acquire_buffer(pool, &buffer, nil) == GST_FLOW_OK
    else { return nil }
    return buffer
  }
}

/// Completes an ALLOCATION query's answer with a pool of video frames, with video meta where downstream reads it.
func addVideoPool(_ query: UnsafeMutablePointer<GstQuery>) {
  var caps: UnsafeMutablePointer<GstCaps>?
  var info = GstVideoInfo()
  gst_query_parse_allocation(query, &caps, nil)
  guard let caps, gst_video_info_from_caps(&info, caps) != 0 else { return }
  var pool: UnsafeMutablePointer<GstBufferPool>?
  var size = guint(clamping: info.size)
  var least: guint = 0
  var most: guint = 0
  let hasPool = gst_query_get_n_allocation_pools(query) > 0
  if hasPool { gst_query_parse_nth_allocation_pool(query, 0, &pool, &size, &least, &most) }
  guard let chosen = pool ?? gst_video_buffer_pool_new() else { return }
  defer { gst_object_unref(chosen) }
  let config = gst_buffer_pool_get_config(chosen)
  gst_buffer_pool_config_set_params(config, caps, size, least, most)
  if gst_query_find_allocation_meta(query, gst_video_meta_api_get_type(), nil) != 0 {
    gst_buffer_pool_config_add_option(config, "GstBufferPoolOptionVideoMeta")
  }
  gst_buffer_pool_set_config(chosen, config)
  if hasPool {
    gst_query_set_nth_allocation_pool(query, 0, chosen, size, least, most)
  } else {
    gst_query_add_allocation_pool(query, chosen, size, least, most)
  }
}
