/// A reference that keeps a GObject, and with it its Swift half, alive.

import CGStreamer

public final class ObjectRef<Half: ObjectHalf>: @unchecked Sendable {
  public let half: Half

  public init(_ half: Half) {
    self.half = half
    gst_object_ref(half.raw)
  }

  deinit {
    gst_object_unref(half.raw)
  }
}
