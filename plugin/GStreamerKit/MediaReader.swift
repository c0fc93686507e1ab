/// The pictures of a media file, decoded one after the other.

import CGStreamer
import Glibc

/// Why a media file gave no pictures.
public struct MediaError: Error, CustomStringConvertible {
  public let description: String
}

/// A picture as tight rows of RGB bytes.
public struct MediaPicture: Sendable {
  public let width: Int
  public let height: Int
  public let pixels: [UInt8]
}

/// Decodes the first video stream of a file, or a photo, with whatever decoders are installed. Pictures come in order, turned
/// as the file's own orientation says; going back needs a new reader.
public final class MediaReader {
  private let path: String
  private let pipeline: UnsafeMutablePointer<GstElement>
  private let sink: UnsafeMutablePointer<GstAppSink>
  private let bus: UnsafeMutablePointer<GstBus>
  /// Frames per second as a fraction, once a picture was read; nil for photos and files that do not say.
  public private(set) var rate: (numerator: Int, denominator: Int)?

  /// Starts decoding.
  /// - Throws: `MediaError` naming the file when GStreamer lacks an element for this. What is wrong with the file itself shows
  ///   at the first picture.
  public init(_ path: String) throws(MediaError) {
    self.path = path
    var failure: UnsafeMutablePointer<GError>?
    guard gst_init_check(nil, nil, &failure) != 0 else {
      throw MediaError(
        description: "'\(path)' cannot be decoded: GStreamer does not start: \(Self.text(failure))")
    }
    let line =
      "filesrc name=source ! decodebin ! videoconvert ! videoflip video-direction=auto ! videoconvert "
      + "! video/x-raw,format=RGB ! appsink name=sink sync=false max-buffers=4"
    guard let pipeline = gst_parse_launch(line, &failure), failure == nil else {
      throw MediaError(description: "'\(path)' cannot be decoded: \(Self.text(failure))")
    }
    self.pipeline = pipeline
    let bin = UnsafeMutableRawPointer(pipeline).assumingMemoryBound(to: GstBin.self)
    guard let source = gst_bin_get_by_name(bin, "source"), let found = gst_bin_get_by_name(bin, "sink"),
      let bus = gst_element_get_bus(pipeline)
    else {
      gst_object_unref(pipeline)
      throw MediaError(
        description: "'\(path)' cannot be decoded: GStreamer's filesrc and appsink are missing")
    }
    defer { gst_object_unref(source) }
    self.bus = bus
    sink = UnsafeMutableRawPointer(found).assumingMemoryBound(to: GstAppSink.self)
    var location = GValue()
    g_value_init(&location, gsw_type_string())
    g_value_set_string(&location, path)
    g_object_set_property(
      UnsafeMutableRawPointer(source).assumingMemoryBound(to: GObject.self), "location", &location)
    g_value_unset(&location)
    gst_element_set_state(pipeline, GST_STATE_PLAYING)
  }

  deinit {
    gst_element_set_state(pipeline, GST_STATE_NULL)
    gst_object_unref(sink)
    gst_object_unref(bus)
    gst_object_unref(pipeline)
  }

  /// The next picture; nil at the end.
  /// - Throws: `MediaError` with the first error of the pipeline, or when its elements came to a rest without an error, an end or
  ///   a picture.
  public func next() throws(MediaError) -> MediaPicture? {
    var idleLooks = 0
    while true {
      if let sample = gst_app_sink_try_pull_sample(sink, 50 * 1_000_000) {
        defer { gst_sample_unref(sample) }
        return try picture(sample)
      }
      if let message = gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR) {
        defer { gst_message_unref(message) }
        var failure: UnsafeMutablePointer<GError>?
        gst_message_parse_error(message, &failure, nil)
        throw MediaError(description: "'\(path)' cannot be decoded: \(Self.text(failure))")
      }
      if gst_app_sink_is_eos(sink) != 0 { return nil }
      // Several times: a demuxer's task starts a moment after that of the element which found the file's type has ended.
      idleLooks = isIdle ? idleLooks + 1 : 0
      if idleLooks == 6 {
        throw MediaError(description: "'\(path)' cannot be decoded: the decoder stops before the end")
      }
    }
  }

  /// Whether no pad has a task that runs: nothing will be pushed any more. decodebin drops an error of a demuxer that fails
  /// before it is plugged in whole, and then neither an error nor an end ever comes.
  private var isIdle: Bool {
    let bin = UnsafeMutableRawPointer(pipeline).assumingMemoryBound(to: GstBin.self)
    return !Self.contains(gst_bin_iterate_recurse(bin)) { element in
      Self.contains(gst_element_iterate_pads(element.assumingMemoryBound(to: GstElement.self))) { pad in
        gst_pad_get_task_state(pad.assumingMemoryBound(to: GstPad.self)) == GST_TASK_STARTED
      }
    }
  }

  /// Whether a list of objects, which is freed, has one like this; a list that changes meanwhile counts as having one.
  private static func contains(
    _ iterator: UnsafeMutablePointer<GstIterator>?, where matches: (UnsafeMutableRawPointer) -> Bool
  ) -> Bool {
    guard let iterator else { return false }
    defer { gst_iterator_free(iterator) }
    var item = GValue()
    defer { g_value_unset(&item) }
    while true {
      switch gst_iterator_next(iterator, &item) {
      case GST_ITERATOR_OK:
        if let object = g_value_get_object(&item), matches(object) { return true }
        g_value_reset(&item)
      case GST_ITERATOR_DONE: return false
      default: return true
      }
    }
  }

  private func picture(_ sample: OpaquePointer) throws(MediaError) -> MediaPicture {
    var info = GstVideoInfo()
    var frame = GstVideoFrame()
    guard let caps = gst_sample_get_caps(sample), gst_video_info_from_caps(&info, caps) != 0,
      let buffer = gst_sample_get_buffer(sample),
      gst_video_frame_map(&frame, &info, buffer, GST_MAP_READ) != 0
    else { throw MediaError(description: "'\(path)' cannot be decoded: a picture has no readable pixels") }
    defer { gst_video_frame_unmap(&frame) }
    guard let base = frame.data.0?.assumingMemoryBound(to: UInt8.self) else {
      throw MediaError(description: "'\(path)' cannot be decoded: a picture has no pixels")
    }
    if info.fps_n > 0, info.fps_d > 0 { rate = (Int(info.fps_n), Int(info.fps_d)) }
    let (width, height, stride) = (Int(info.width), Int(info.height), Int(frame.info.stride.0))
    let pixels = [UInt8](unsafeUninitializedCapacity: width * height * 3) { target, count in
      for y in 0..<height {
        memcpy(target.baseAddress! + y * width * 3, base + y * stride, width * 3)
      }
      count = width * height * 3
    }
    return MediaPicture(width: width, height: height, pixels: pixels)
  }

  /// The text of an error, which is freed.
  private static func text(_ error: UnsafeMutablePointer<GError>?) -> String {
    guard let error else { return "unknown reason" }
    defer { g_error_free(error) }
    return error.pointee.message.map { String(cString: $0) } ?? "unknown reason"
  }
}
