/// Buffers with Swift ownership.

public import CGStreamer

/// One reference to a GstBuffer; ARC holds and drops it.
public final class BufferRef: @unchecked Sendable {
  /// The buffer. Its fields may be written only while it is not shared.
  public let raw: UnsafeMutablePointer<GstBuffer>

  /// Takes over a reference the caller owns.
  public init(taking raw: UnsafeMutablePointer<GstBuffer>) {
    self.raw = raw
  }

  deinit {
    gst_buffer_unref(raw)
  }

  public var pts: GstClockTime { raw.pointee.pts }
  public var duration: GstClockTime { raw.pointee.duration }
  public var flags: UInt32 { raw.pointee.mini_object.flags }

  /// Hands out one more reference, for a C call that takes ownership.
  public func retained() -> UnsafeMutablePointer<GstBuffer> {
    gst_buffer_ref(raw)
  }

  /// A buffer with the timestamps, flags and metas of `source` and no memory: what a later output frame must carry,
  /// without keeping a pooled input buffer away from its pool.
  public static func description(of source: UnsafeMutablePointer<GstBuffer>) -> BufferRef? {
    guard let copy = gst_buffer_new() else { return nil }
    let result = BufferRef(taking: copy)
    result.copyDescription(from: source)
    return result
  }

  /// Copies timestamps, flags and every meta that does not describe the memory itself.
  public func copyDescription(from source: UnsafeMutablePointer<GstBuffer>) {
    gst_buffer_copy_into(raw, source, describing, 0, gsize.max)
    var state: gpointer?
    while let meta = gst_buffer_iterate_meta(source, &state) {
      guard let info = meta.pointee.info, let transform = info.pointee.transform_func,
        gst_meta_api_type_has_tag(info.pointee.api, memoryTag) == 0
      else { continue }
      var all = GstMetaTransformCopy(region: 0, offset: 0, size: gsize.max)
      _ = transform(raw, meta, source, gsw_meta_transform_copy(), &all)
    }
  }
}

private let memoryTag: GQuark = g_quark_from_string("memory")
private let describing = GstBufferCopyFlags(
  rawValue: GST_BUFFER_COPY_FLAGS.rawValue | GST_BUFFER_COPY_TIMESTAMPS.rawValue)
