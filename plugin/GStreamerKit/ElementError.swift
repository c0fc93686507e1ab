/// Errors and warnings on the bus.

public import CGStreamer

/// A failure to post as one ERROR message: GStreamer's domain and code, one sentence for the user, detail for the log.
public struct ElementError: Error, CustomStringConvertible {
  public enum Kind: Sendable {
    case resourceNotFound, resourceRead, resourceNoSpace, resourceFailed
    case streamFormat, streamWrongType, streamFailed
    case librarySettings, libraryInit, coreFailed, coreNegotiation
  }

  public let kind: Kind
  public let text: String
  public var detail: String

  public init(_ kind: Kind, _ text: String, detail: String = "") {
    self.kind = kind
    self.text = text
    self.detail = detail
  }

  public var description: String { text }

  var domainAndCode: (GQuark, gint) {
    switch kind {
    case .resourceNotFound: (gst_resource_error_quark(), gint(GST_RESOURCE_ERROR_NOT_FOUND.rawValue))
    case .resourceRead: (gst_resource_error_quark(), gint(GST_RESOURCE_ERROR_READ.rawValue))
    case .resourceNoSpace: (gst_resource_error_quark(), gint(GST_RESOURCE_ERROR_NO_SPACE_LEFT.rawValue))
    case .resourceFailed: (gst_resource_error_quark(), gint(GST_RESOURCE_ERROR_FAILED.rawValue))
    case .streamFormat: (gst_stream_error_quark(), gint(GST_STREAM_ERROR_FORMAT.rawValue))
    case .streamWrongType: (gst_stream_error_quark(), gint(GST_STREAM_ERROR_WRONG_TYPE.rawValue))
    case .streamFailed: (gst_stream_error_quark(), gint(GST_STREAM_ERROR_FAILED.rawValue))
    case .librarySettings: (gst_library_error_quark(), gint(GST_LIBRARY_ERROR_SETTINGS.rawValue))
    case .libraryInit: (gst_library_error_quark(), gint(GST_LIBRARY_ERROR_INIT.rawValue))
    case .coreFailed: (gst_core_error_quark(), gint(GST_CORE_ERROR_FAILED.rawValue))
    case .coreNegotiation: (gst_core_error_quark(), gint(GST_CORE_ERROR_NEGOTIATION.rawValue))
    }
  }
}

extension ObjectHalf {
  /// The element behind this half, for GStreamer calls.
  public final var element: UnsafeMutablePointer<GstElement> { raw.assumingMemoryBound(to: GstElement.self) }

  /// Posts an ERROR message on the bus.
  public final func post(
    _ error: ElementError, file: StaticString = #fileID, function: StaticString = #function,
    line: Int32 = #line
  ) {
    message(GST_MESSAGE_ERROR, error, file, function, line)
  }

  /// Posts a WARNING message on the bus: something is odd, and the stream goes on.
  public final func postWarning(
    _ warning: ElementError, file: StaticString = #fileID, function: StaticString = #function,
    line: Int32 = #line
  ) {
    message(GST_MESSAGE_WARNING, warning, file, function, line)
  }

  /// Posts an INFO message; the error's text is the information, also as its detail, which is what gst-launch-1.0
  /// prints of one.
  public final func postInfo(
    _ information: ElementError, file: StaticString = #fileID, function: StaticString = #function,
    line: Int32 = #line
  ) {
    var information = information
    information.detail = information.text
    message(GST_MESSAGE_INFO, information, file, function, line)
  }

  private func message(
    _ type: GstMessageType, _ error: ElementError, _ file: StaticString, _ function: StaticString,
    _ line: Int32
  ) {
    let (domain, code) = error.domainAndCode
    gst_element_message_full(
      element, type, domain, code, g_strdup(error.text), error.detail.isEmpty ? nil : g_strdup(error.detail),
      cString(file), cString(function), line)
  }
}
