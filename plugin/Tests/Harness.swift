/// An element under GstHarness: properties and frames in, frames, events and messages out.

import CGStreamer
import CGStreamerCheck
import TestSupport
import Testing

/// GStreamer and the plugin, once per process. The plugin is linked in, so no installed copy is tested by mistake.
let gstreamer: Void = {
  gst_init(nil, nil)
  gst_plugin_videolora_register()
}()

/// The tests of the elements share one process-wide GStreamer, so they run one after the other.
@Suite(.serialized) struct ElementTests {}

/// A random two-block model on 8-frame clips: a clip takes milliseconds.
let tinyModel = Fixture.path("tag_model")

/// One message of the bus.
struct BusMessage {
  let type: GstMessageType
  /// ERROR and WARNING: the text. PROGRESS: the text. ELEMENT: the structure.
  let text: String
  /// PROGRESS: the code. ELEMENT: the structure's name.
  let name: String
  let progress: GstProgressType?
}

/// What came out of the element for one frame.
struct OutputFrame {
  let pts, dts, duration: GstClockTime
  let flags: UInt32
  let bytes: [UInt8]
}

final class TestElement {
  let harness: UnsafeMutablePointer<GstHarness>
  let element: UnsafeMutablePointer<GstElement>
  private let bus: UnsafeMutablePointer<GstBus>
  private var isTornDown = false

  /// Makes `videolora` with the tiny model, sets the properties in order, and starts it.
  /// - Parameter caps: what upstream sends; nil leaves that to the test.
  init(_ properties: KeyValuePairs<String, String> = [:], caps: String? = rgb(32, 32)) throws {
    _ = gstreamer
    element = try #require(gst_element_factory_make("videolora", nil))
    gst_object_ref_sink(element)
    bus = gst_bus_new()
    gst_element_set_bus(element, bus)
    setProperty(element, "model", tinyModel)
    setProperty(element, "steps", "2")
    for (name, value) in properties { setProperty(element, name, value) }
    harness = gst_harness_new_with_element(element, "sink", "src")
    if let caps { gst_harness_set_src_caps_str(harness, caps) }
  }

  deinit {
    tearDown()
    // Messages hold their element.
    gst_bus_set_flushing(bus, 1)
    gst_object_unref(element)
    gst_object_unref(bus)
  }

  func tearDown() {
    guard !isTornDown else { return }
    isTornDown = true
    gst_harness_teardown(harness)
    gst_element_set_state(element, GST_STATE_NULL)
  }

  @discardableResult
  func push(_ buffer: UnsafeMutablePointer<GstBuffer>) -> GstFlowReturn {
    gst_harness_push(harness, buffer)
  }

  @discardableResult
  func push(_ event: UnsafeMutablePointer<GstEvent>) -> Bool {
    gst_harness_push_event(harness, event) != 0
  }

  /// Everything that has come out so far.
  func pullAll() -> [OutputFrame] { pulledFrames(harness) }

  /// Events that have come out, by type name.
  func pullEvents() -> [String] {
    var names: [String] = []
    while let event = gst_harness_try_pull_event(harness) {
      names.append(String(cString: gst_event_type_get_name(event.pointee.type)))
      gst_event_unref(event)
    }
    return names
  }

  func messages(_ type: GstMessageType? = nil) -> [BusMessage] {
    CGStreamerMessages.take(bus).filter { type == nil || $0.type == type }
  }

  /// Messages up to the first one that `isLast` accepts; gives up after ten seconds.
  func messages(until isLast: (BusMessage) -> Bool) -> [BusMessage] {
    var all: [BusMessage] = []
    for _ in 0..<1000 {
      all += messages()
      if all.contains(where: isLast) { break }
      g_usleep(10_000)
    }
    return all
  }

  func double(_ path: String) -> Double {
    var value = GValue()
    g_value_init(&value, gsw_type_double())
    defer { g_value_unset(&value) }
    gst_child_proxy_get_property(OpaquePointer(element), path, &value)
    return g_value_get_double(&value)
  }

  func string(_ path: String) -> String? {
    var value = GValue()
    gst_child_proxy_get_property(OpaquePointer(element), path, &value)
    guard value.g_type != 0 else { return nil }
    defer { g_value_unset(&value) }
    guard let text = gst_value_serialize(&value) else { return nil }
    defer { g_free(text) }
    return String(cString: text)
  }
}

enum CGStreamerMessages {
  static func take(_ bus: UnsafeMutablePointer<GstBus>) -> [BusMessage] {
    var found: [BusMessage] = []
    while let message = gst_bus_pop(bus) {
      found.append(describe(message))
      gst_message_unref(message)
    }
    return found
  }

  private static func describe(_ message: UnsafeMutablePointer<GstMessage>) -> BusMessage {
    let type = message.pointee.type
    switch type {
    case GST_MESSAGE_ERROR, GST_MESSAGE_WARNING:
      var error: UnsafeMutablePointer<GError>?
      if type == GST_MESSAGE_ERROR {
        gst_message_parse_error(message, &error, nil)
      } else {
        gst_message_parse_warning(message, &error, nil)
      }
      defer { g_clear_error(&error) }
      return BusMessage(
        type: type, text: error.map { String(cString: $0.pointee.message) } ?? "",
        name: error.map { String(cString: g_quark_to_string($0.pointee.domain)) } ?? "", progress: nil)
    case GST_MESSAGE_PROGRESS:
      var progress = GST_PROGRESS_TYPE_START
      var code: UnsafeMutablePointer<CChar>?
      var text: UnsafeMutablePointer<CChar>?
      gst_message_parse_progress(message, &progress, &code, &text)
      defer {
        g_free(code)
        g_free(text)
      }
      return BusMessage(
        type: type, text: text.map { String(cString: $0) } ?? "",
        name: code.map { String(cString: $0) } ?? "",
        progress: progress)
    default:
      guard let structure = gst_message_get_structure(message), let text = gst_structure_to_string(structure)
      else {
        return BusMessage(type: type, text: "", name: "", progress: nil)
      }
      defer { g_free(text) }
      return BusMessage(
        type: type, text: String(cString: text), name: String(cString: gst_structure_get_name(structure)),
        progress: nil)
    }
  }
}

// MARK: - Properties

/// Sets `name` or `child::name` from text, as gst-launch does.
func setProperty(_ element: UnsafeMutablePointer<GstElement>, _ name: String, _ value: String) {
  var target: UnsafeMutablePointer<GObject>?
  var spec: UnsafeMutablePointer<GParamSpec>?
  guard gst_child_proxy_lookup(OpaquePointer(element), name, &target, &spec) != 0, let target, let spec else {
    Issue.record("no property \(name)")
    return
  }
  gst_util_set_object_arg(target, spec.pointee.name, value)
  g_object_unref(target)
}

// MARK: - Frames

func rgb(_ width: Int, _ height: Int, format: String = "RGB", rate: String = "25/1") -> String {
  "video/x-raw,format=\(format),width=\(width),height=\(height),framerate=\(rate)"
}

/// A picture that differs for every index, tight RGB rows.
func picture(_ index: Int, _ width: Int, _ height: Int) -> [UInt8] {
  var pixels: [UInt8] = []
  pixels.reserveCapacity(width * height * 3)
  for y in 0..<height {
    for x in 0..<width {
      pixels += [UInt8((x * 8 + index * 3) % 256), UInt8((y * 5) % 256), UInt8((x * y + index) % 256)]
    }
  }
  return pixels
}

let frameDuration: GstClockTime = 40_000_000

/// A buffer of tight pixels; RGB rows are padded to four bytes as GstVideoInfo lays them out.
func makeBuffer(
  _ index: Int, _ width: Int = 32, _ height: Int = 32, channels: Int = 3, pts: GstClockTime? = nil,
  duration: GstClockTime = frameDuration
) -> UnsafeMutablePointer<GstBuffer> {
  let bytes = laidOut(picture(index, width, height), width, height, channels: channels)
  let buffer = bytes.withUnsafeBytes { source -> UnsafeMutablePointer<GstBuffer> in
    let buffer = gst_buffer_new_allocate(nil, gsize(source.count), nil)!
    gst_buffer_fill(buffer, 0, source.baseAddress, gsize(source.count))
    return buffer
  }
  buffer.pointee.pts = pts ?? GstClockTime(index) * frameDuration
  buffer.pointee.duration = duration
  return buffer
}

func laidOut(_ pixels: [UInt8], _ width: Int, _ height: Int, channels: Int) -> [UInt8] {
  let stride = (width * channels + 3) / 4 * 4
  var bytes = [UInt8](repeating: 0, count: stride * height)
  for y in 0..<height {
    for x in 0..<width {
      for c in 0..<3 { bytes[y * stride + x * channels + c] = pixels[(y * width + x) * 3 + c] }
      if channels == 4 { bytes[y * stride + x * 4 + 3] = 171 }
    }
  }
  return bytes
}

/// Frames that a harness holds at the moment.
func pulledFrames(_ harness: UnsafeMutablePointer<GstHarness>) -> [OutputFrame] {
  var frames: [OutputFrame] = []
  while let buffer = gst_harness_try_pull(harness) {
    frames.append(
      OutputFrame(
        pts: buffer.pointee.pts, dts: buffer.pointee.dts, duration: buffer.pointee.duration,
        flags: buffer.pointee.mini_object.flags, bytes: bytes(of: buffer)))
    gst_buffer_unref(buffer)
  }
  return frames
}

func bytes(of buffer: UnsafeMutablePointer<GstBuffer>) -> [UInt8] {
  let size = Int(gst_buffer_get_size(buffer))
  return [UInt8](unsafeUninitializedCapacity: size) { target, count in
    count = Int(gst_buffer_extract(buffer, 0, target.baseAddress, gsize(size)))
  }
}

// MARK: - Threads

/// Something to run on another thread.
private class Job: @unchecked Sendable {
  func run() {}
}

/// Runs `body` on a thread of its own; `join` waits for its result.
final class Background<Result: Sendable>: @unchecked Sendable {
  private final class Work: Job, @unchecked Sendable {
    let body: @Sendable () -> Result
    var result: Result?
    init(_ body: @escaping @Sendable () -> Result) { self.body = body }
    override func run() { result = body() }
  }

  private let work: Work
  private var thread: UnsafeMutablePointer<GThread>?

  init(_ body: @escaping @Sendable () -> Result) {
    work = Work(body)
    thread = g_thread_new(
      "test",
      { data in
        guard let data else { return nil }
        Unmanaged<Job>.fromOpaque(data).takeRetainedValue().run()
        return nil
      }, Unmanaged<Job>.passRetained(work).toOpaque())
  }

  func join() -> Result? {
    if let thread { g_thread_join(thread) }
    thread = nil
    return work.result
  }
}

/// A pointer that a test hands to its other thread.
struct Handed<Pointer>: @unchecked Sendable {
  let pointer: Pointer
  init(_ pointer: Pointer) { self.pointer = pointer }
}
