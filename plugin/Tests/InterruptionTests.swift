import CGStreamer
import CGStreamerCheck
import Glibc
import Testing

extension ElementTests {
  /// Flushes and state changes while a clip is being computed, and repeated lives.
  @Suite struct Interruption {
    /// A clip that takes far longer than any test waits.
    private static let endless: KeyValuePairs = [
      "steps": "1000", "strength": "1", "guidance-scale": "3", "clip-length": "4", "overlap": "0",
    ]

    private func seconds(_ body: () -> Void) -> Double {
      let before = g_get_monotonic_time()
      body()
      return Double(g_get_monotonic_time() - before) / 1e6
    }

    /// Pushes a whole clip from another thread and waits until its computation runs.
    private func computing(_ element: TestElement) -> Background<GstFlowReturn> {
      let harness = Handed(element.harness)
      let pushing = Background {
        var flow = GST_FLOW_OK
        for index in 0..<4 where flow == GST_FLOW_OK {
          flow = gst_harness_push(harness.pointer, makeBuffer(index, 96, 96))
        }
        return flow
      }
      let begun = element.messages { $0.name == "clip" && $0.progress == GST_PROGRESS_TYPE_CONTINUE }
      #expect(begun.contains { $0.progress == GST_PROGRESS_TYPE_START && $0.name == "clip" })
      return pushing
    }

    @Test func flushStopsAClipAndTheStreamGoesOn() throws {
      let element = try TestElement(Self.endless, caps: rgb(96, 96))
      let pushing = computing(element)
      let waited = seconds {
        element.push(gst_event_new_flush_start())
        #expect(pushing.join() == GST_FLOW_FLUSHING)
      }
      print("flush in mid-clip: \(Int(waited * 1000)) ms")
      #expect(waited < 2, "flush took \(waited) s")
      #expect(element.messages(GST_MESSAGE_PROGRESS).last?.progress == GST_PROGRESS_TYPE_CANCELED)

      element.push(gst_event_new_flush_stop(1))
      setProperty(element.element, "steps", "1")
      let segment = gst_segment_new()
      defer { gst_segment_free(segment) }
      gst_segment_init(segment, GST_FORMAT_TIME)
      element.push(gst_event_new_segment(segment))
      for index in 10..<15 { #expect(element.push(makeBuffer(index, 96, 96)) == GST_FLOW_OK) }
      element.push(gst_event_new_eos())
      #expect(element.pullAll().map(\.pts) == (10..<15).map { GstClockTime($0) * frameDuration })
      #expect(element.messages(GST_MESSAGE_ERROR).isEmpty)
    }

    @Test func nullDuringAClipReturnsAtOnce() throws {
      let element = try TestElement(Self.endless, caps: rgb(96, 96))
      let pushing = computing(element)
      let waited = seconds { gst_element_set_state(element.element, GST_STATE_NULL) }
      print("NULL in mid-clip: \(Int(waited * 1000)) ms")
      #expect(waited < 2, "the state change took \(waited) s")
      #expect(pushing.join() == GST_FLOW_FLUSHING)
      #expect(element.messages(GST_MESSAGE_ERROR).isEmpty)
    }

    @Test func readyAndBackStartsAnew() throws {
      let element = try TestElement()
      for index in 0..<3 { element.push(makeBuffer(index)) }
      gst_element_set_state(element.element, GST_STATE_READY)
      gst_element_set_state(element.element, GST_STATE_PLAYING)
      gst_harness_set_src_caps_str(element.harness, rgb(32, 32))
      let segment = gst_segment_new()
      defer { gst_segment_free(segment) }
      gst_segment_init(segment, GST_FORMAT_TIME)
      element.push(gst_event_new_segment(segment))
      for index in 5..<7 { element.push(makeBuffer(index)) }
      element.push(gst_event_new_eos())
      #expect(element.pullAll().map(\.pts) == [5 * frameDuration, 6 * frameDuration])
    }

    /// One of two elements that load the same model goes away; the other gets it all the same.
    @Test func loadingTogetherAndLeaving() throws {
      for _ in 0..<10 {
        let first = try TestElement()
        let second = try TestElement()
        first.tearDown()
        for index in 0..<8 { #expect(second.push(makeBuffer(index)) == GST_FLOW_OK) }
        second.push(gst_event_new_eos())
        #expect(second.pullAll().count == 8)
      }
    }

    /// Flushing seeks at any moment of a running pipeline.
    @Test func seeksStormThrough() throws {
      _ = gstreamer
      let launch =
        "videotestsrc ! \(rgb(48, 48)) ! queue ! videolora model=\(tinyModel) steps=8 strength=1 name=v ! fakesink"
      let pipeline = try #require(gst_parse_launch(launch, nil))
      defer {
        gst_element_set_state(pipeline, GST_STATE_NULL)
        gst_object_unref(pipeline)
      }
      gst_element_set_state(pipeline, GST_STATE_PLAYING)
      for seek in 0..<20 {
        let flags = GstSeekFlags(rawValue: GST_SEEK_FLAG_FLUSH.rawValue)
        #expect(gst_element_seek_simple(pipeline, GST_FORMAT_TIME, flags, gint64(seek) * 1_000_000_000) != 0)
        g_usleep(gulong(seek % 7) * 5000)
      }
      let bus = gst_element_get_bus(pipeline)
      defer { gst_object_unref(bus) }
      // The stream is alive: it prerolls after the last seek.
      #expect(gst_element_get_state(pipeline, nil, nil, 20_000_000_000) == GST_STATE_CHANGE_SUCCESS)
      #expect(CGStreamerMessages.take(bus!).filter { $0.type == GST_MESSAGE_ERROR }.map(\.text) == [])
    }

    /// Runs VIDEOLORA_SOAK lives (default 12) and looks at the memory; 200 is what a release is tested with.
    @Test func livesLeaveNothingBehind() throws {
      _ = gstreamer
      let cycles = getenv("VIDEOLORA_SOAK").flatMap { Int(String(cString: $0)) } ?? 12
      let settled = min(20, cycles / 2)
      var first = 0
      for cycle in 0..<cycles {
        let element = try TestElement(["lora_0::strength-curve": "0:0, 1s:1"])
        for index in 0..<(8 + cycle % 5) { element.push(makeBuffer(index)) }
        if cycle % 2 == 0 { element.push(gst_event_new_eos()) }
        _ = element.pullAll()
        element.tearDown()
        if cycle == settled { first = residentKilobytes() }
      }
      let growth = residentKilobytes() - first
      // A few lives more or less touch fresh pages; a leak of one frame per life would be far above.
      let allowed = 1024 + 1024 * (cycles - settled) / 100
      print("\(cycles) cycles, RSS growth after the first \(settled): \(growth) kB")
      #expect(growth < allowed)
    }

    private func residentKilobytes() -> Int {
      guard let file = fopen("/proc/self/statm", "r") else { return 0 }
      defer { fclose(file) }
      var line = [CChar](repeating: 0, count: 128)
      guard fgets(&line, 127, file) != nil else { return 0 }
      let text = String(decoding: line.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
      let fields = text.split(separator: " ")
      return fields.count > 1 ? (Int(fields[1]) ?? 0) * 4 : 0
    }
  }
}
