/// GStreamer debug output from Swift (`GST_DEBUG=<name>:5`).

import CGStreamer

/// A debug category. A message is built only when its level is enabled.
public struct DebugCategory: @unchecked Sendable {
  // Allocated once by GStreamer and never freed; its threshold is an atomic int there.
  private let raw: UnsafeMutablePointer<GstDebugCategory>?

  public init(_ name: String, _ description: String) {
    raw = _gst_debug_category_new(name, 0, description)
  }

  public func error(
    _ object: ObjectHalf?, _ message: @autoclosure () -> String, file: StaticString = #fileID,
    function: StaticString = #function, line: Int32 = #line
  ) {
    log(GST_LEVEL_ERROR, object, message, file, function, line)
  }

  public func warning(
    _ object: ObjectHalf?, _ message: @autoclosure () -> String, file: StaticString = #fileID,
    function: StaticString = #function, line: Int32 = #line
  ) {
    log(GST_LEVEL_WARNING, object, message, file, function, line)
  }

  public func info(
    _ object: ObjectHalf?, _ message: @autoclosure () -> String, file: StaticString = #fileID,
    function: StaticString = #function, line: Int32 = #line
  ) {
    log(GST_LEVEL_INFO, object, message, file, function, line)
  }

  public func debug(
    _ object: ObjectHalf?, _ message: @autoclosure () -> String, file: StaticString = #fileID,
    function: StaticString = #function, line: Int32 = #line
  ) {
    log(GST_LEVEL_DEBUG, object, message, file, function, line)
  }

  /// Per-frame chatter.
  public func trace(
    _ object: ObjectHalf?, _ message: @autoclosure () -> String, file: StaticString = #fileID,
    function: StaticString = #function, line: Int32 = #line
  ) {
    log(GST_LEVEL_LOG, object, message, file, function, line)
  }

  private func log(
    _ level: GstDebugLevel, _ object: ObjectHalf?, _ message: () -> String, _ file: StaticString,
    _ function: StaticString, _ line: Int32
  ) {
    guard let raw, level.rawValue <= numericCast(raw.pointee.threshold) else { return }
    gst_debug_log_literal(
      raw, level, cString(file), cString(function), line, object?.gobject, message())
  }
}

/// The immortal C string of a static string.
func cString(_ text: StaticString) -> UnsafePointer<CChar> {
  UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
}
