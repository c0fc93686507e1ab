/// A strength that changes over time, written as text: `0:0, 2s:1, 5s:0.3`.

import CGStreamer

/// Points of stream time and value, linear in between, constant before the first and after the last.
///
/// A time is a number with an optional unit, `s` (the default) or `ms`.
package struct StrengthCurve: Equatable, Sendable {
  package struct Point: Equatable, Sendable {
    /// Nanoseconds of stream time.
    package var time: UInt64
    package var value: Double
  }

  package struct Malformed: Error, CustomStringConvertible {
    package let description: String
  }

  package private(set) var points: [Point] = []

  /// Reads the text; empty text is a curve without points.
  package init(_ text: String, range: ClosedRange<Double>) throws(Malformed) {
    for entry in text.split(separator: ",", omittingEmptySubsequences: false) where !text.isBlank {
      let halves = entry.split(separator: ":", omittingEmptySubsequences: false)
      guard halves.count == 2 else {
        throw Malformed(
          description: "\"\(entry.trimmed)\" is not time:value; write for example 0:0, 2s:1, 5s:0.3")
      }
      guard let time = Self.nanoseconds(halves[0].trimmed) else {
        throw Malformed(
          description: "\"\(halves[0].trimmed)\" is not a time; write seconds as 2, 2s or 2000ms")
      }
      guard let value = Double(String(halves[1].trimmed)), value.isFinite, range.contains(value) else {
        throw Malformed(
          description:
            "\"\(halves[1].trimmed)\" is not a strength; write a number from \(range.lowerBound) to \(range.upperBound)"
        )
      }
      if let last = points.last, last.time >= time {
        throw Malformed(
          description: "the times must grow, and \"\(entry.trimmed)\" does not come after the point before it"
        )
      }
      points.append(Point(time: time, value: value))
    }
  }

  /// Sets a property free that a control source drives.
  static func unbind(_ object: UnsafeMutablePointer<GstObject>, property: String) {
    guard let old = gst_object_get_control_binding(object, property) else { return }
    gst_object_remove_control_binding(object, old)
    gst_object_unref(old)
  }

  /// Drives a controllable property of `object` with this curve; one without points drives nothing.
  func bind(to object: UnsafeMutablePointer<GstObject>, property: String) {
    guard let first = points.first, let source = gst_interpolation_control_source_new() else { return }
    let raw = UnsafeMutableRawPointer(source)
    defer { gst_object_unref(raw) }
    var mode = GValue()
    g_value_init(&mode, gst_interpolation_mode_get_type())
    g_value_set_enum(&mode, gint(GST_INTERPOLATION_MODE_LINEAR.rawValue))
    g_object_set_property(raw.assumingMemoryBound(to: GObject.self), "mode", &mode)
    g_value_unset(&mode)

    let timed = raw.assumingMemoryBound(to: GstTimedValueControlSource.self)
    // The control source has no value before its first point; the curve has.
    if first.time > 0 { _ = gst_timed_value_control_source_set(timed, 0, first.value) }
    for point in points {
      _ = gst_timed_value_control_source_set(timed, GstClockTime(point.time), point.value)
    }
    let control = raw.assumingMemoryBound(to: GstControlSource.self)
    if let binding = gst_direct_control_binding_new_absolute(object, property, control) {
      gst_object_add_control_binding(object, binding)
    }
  }

  private static func nanoseconds(_ text: Substring) -> UInt64? {
    var number = text
    var unit = 1e9
    if number.hasSuffix("ms") {
      number = number.dropLast(2)
      unit = 1e6
    } else if number.hasSuffix("s") {
      number = number.dropLast()
    }
    guard let value = Double(String(number)), value.isFinite, value >= 0, value * unit < 1e18 else {
      return nil
    }
    return UInt64((value * unit).rounded())
  }
}

extension StringProtocol {
  fileprivate var isBlank: Bool { allSatisfy(\.isWhitespace) }

  fileprivate var trimmed: Substring {
    var rest = Substring(self)
    while rest.first?.isWhitespace == true { rest.removeFirst() }
    while rest.last?.isWhitespace == true { rest.removeLast() }
    return rest
  }
}
