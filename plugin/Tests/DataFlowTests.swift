import CGStreamer
import CGStreamerCheck
import Testing

extension ElementTests {
  /// Frames through `videolora`: count, order, timestamps, flags, sizes, draining.
  @Suite struct DataFlow {
    @Test(arguments: [1, 5, 8, 19]) func asManyOutAsIn(_ count: Int) throws {
      let element = try TestElement()
      for index in 0..<count { #expect(element.push(makeBuffer(index)) == GST_FLOW_OK) }
      element.push(gst_event_new_eos())
      let frames = element.pullAll()
      #expect(frames.map(\.pts) == (0..<count).map { GstClockTime($0) * frameDuration })
      #expect(frames.allSatisfy { $0.bytes.count == 32 * 32 * 3 })
      // Changed, not passed through.
      #expect(frames[0].bytes != laidOut(picture(0, 32, 32), 32, 32, channels: 3))
    }

    @Test func timestampsAndFlagsArriveAsTheyCame() throws {
      let element = try TestElement(["clip-length": "4", "overlap": "1"])
      var expected: [(GstClockTime, GstClockTime, GstClockTime, UInt32)] = []
      let interesting =
        [
          GST_BUFFER_FLAG_DISCONT, GST_BUFFER_FLAG_CORRUPTED, GST_BUFFER_FLAG_MARKER, GST_BUFFER_FLAG_GAP,
          GST_BUFFER_FLAG_DELTA_UNIT, GST_BUFFER_FLAG_DROPPABLE, GST_BUFFER_FLAG_RESYNC,
        ].map { UInt32($0.rawValue) }
      let mask = interesting.reduce(0, |)
      for index in 0..<11 {
        // Variable frame rate, to the nanosecond.
        let buffer = makeBuffer(
          index, pts: GstClockTime(index * index) * 1_000_003,
          duration: GstClockTime(2 * index + 1) * 1_000_003)
        buffer.pointee.dts = GstClockTime(index) * 7
        buffer.pointee.mini_object.flags |= interesting[index % interesting.count]
        expected.append(
          (
            buffer.pointee.pts, buffer.pointee.dts, buffer.pointee.duration,
            buffer.pointee.mini_object.flags & mask
          ))
        element.push(buffer)
      }
      element.push(gst_event_new_eos())
      let frames = element.pullAll()
      #expect(frames.count == expected.count)
      for (index, (frame, wanted)) in zip(frames, expected).enumerated() {
        #expect((frame.pts, frame.dts, frame.duration, frame.flags & mask) == wanted, "frame \(index)")
      }
    }

    @Test func metasTravelWithTheirFrame() throws {
      let element = try TestElement(["clip-length": "4", "overlap": "0"])
      for index in 0..<6 {
        let buffer = makeBuffer(index)
        if index == 2 {
          gst_buffer_add_video_region_of_interest_meta(buffer, "face", 1, 2, 3, 4)
        }
        element.push(buffer)
      }
      element.push(gst_event_new_eos())
      var found: [Int] = []
      for index in 0..<6 {
        let buffer = try #require(gst_harness_try_pull(element.harness))
        if gst_buffer_get_meta(buffer, gst_video_region_of_interest_meta_api_get_type()) != nil {
          found.append(index)
        }
        gst_buffer_unref(buffer)
      }
      #expect(found == [2])
    }

    @Test(arguments: ["RGB", "RGBx"]) func strengthZeroIsTheSourceBitForBit(_ format: String) throws {
      let channels = format == "RGB" ? 3 : 4
      let element = try TestElement(["strength": "0"], caps: rgb(33, 17, format: format))
      for index in 0..<11 { element.push(makeBuffer(index, 33, 17, channels: channels)) }
      element.push(gst_event_new_eos())
      let expected = (0..<11).map { laidOut(picture($0, 33, 17), 33, 17, channels: channels) }
      #expect(element.pullAll().map(\.bytes) == expected)
    }

    /// RGBx, and RGB behind a video meta with wide rows and an offset, give the pixels that plain RGB gives.
    @Test func stridesAndFormatsChangeNothing() throws {
      let (width, height, count) = (33, 17, 4)
      func run(_ format: String, _ make: (Int) -> UnsafeMutablePointer<GstBuffer>) throws -> [[UInt8]] {
        let element = try TestElement(["seed": "3"], caps: rgb(width, height, format: format))
        for index in 0..<count { element.push(make(index)) }
        element.push(gst_event_new_eos())
        let channels = format == "RGB" ? 3 : 4
        let stride = (width * channels + 3) / 4 * 4
        return element.pullAll().map { frame in
          (0..<height).flatMap { y in
            (0..<width).flatMap { x in (0..<3).map { frame.bytes[y * stride + x * channels + $0] } }
          }
        }
      }
      let plain = try run("RGB") { makeBuffer($0, width, height) }
      let padded = try run("RGBx") { makeBuffer($0, width, height, channels: 4) }
      let strided = try run("RGB") { index in
        let (offset, stride) = (64, 160)
        var bytes = [UInt8](repeating: 99, count: offset + stride * height)
        let pixels = picture(index, width, height)
        for y in 0..<height {
          for x in 0..<width * 3 { bytes[offset + y * stride + x] = pixels[y * width * 3 + x] }
        }
        let buffer = gst_buffer_new_allocate(nil, gsize(bytes.count), nil)!
        gst_buffer_fill(buffer, 0, bytes, gsize(bytes.count))
        var offsets: (gsize, gsize, gsize, gsize) = (gsize(offset), 0, 0, 0)
        var strides: (gint, gint, gint, gint) = (gint(stride), 0, 0, 0)
        withUnsafeMutablePointer(to: &offsets.0) { offsets in
          withUnsafeMutablePointer(to: &strides.0) { strides in
            _ = gst_buffer_add_video_meta_full(
              buffer, GST_VIDEO_FRAME_FLAG_NONE, GST_VIDEO_FORMAT_RGB, guint(width), guint(height), 1,
              offsets,
              strides)
          }
        }
        buffer.pointee.pts = GstClockTime(index) * frameDuration
        return buffer
      }
      #expect(plain.count == count)
      #expect(plain == padded)
      #expect(plain == strided)
    }

    @Test func variableFrameRateWorks() throws {
      let element = try TestElement(caps: rgb(32, 32, rate: "0/1"))
      for index in 0..<3 { element.push(makeBuffer(index)) }
      element.push(gst_event_new_eos())
      #expect(element.pullAll().count == 3)
    }

    @Test func newCapsDrainTheOldSize() throws {
      let element = try TestElement()
      for index in 0..<5 { element.push(makeBuffer(index)) }
      #expect(element.pullAll().isEmpty)
      gst_harness_set_src_caps_str(element.harness, rgb(48, 16))
      #expect(element.pullAll().map(\.bytes.count) == [Int](repeating: 32 * 32 * 3, count: 5))
      for index in 5..<8 { element.push(makeBuffer(index, 48, 16)) }
      element.push(gst_event_new_eos())
      #expect(element.pullAll().map(\.bytes.count) == [Int](repeating: 48 * 16 * 3, count: 3))
      let caps = try #require(gst_pad_get_current_caps(element.harness.pointee.sinkpad))
      defer { gst_caps_unref(caps) }
      let text = try #require(gst_caps_to_string(caps))
      defer { g_free(text) }
      #expect(String(cString: text).contains("width=(int)48"))
    }

    @Test func sameCapsAgainKeepTheClip() throws {
      let element = try TestElement()
      for index in 0..<5 { element.push(makeBuffer(index)) }
      element.push(gst_event_new_caps(gst_pad_get_current_caps(element.harness.pointee.srcpad)))
      #expect(element.pullAll().isEmpty)
    }

    @Test func colorimetryAndPixelAspectRatioAreCarried() throws {
      let caps =
        rgb(32, 32) + ",pixel-aspect-ratio=16/15,colorimetry=(string)sRGB,interlace-mode=(string)progressive"
      let element = try TestElement(caps: caps)
      element.push(makeBuffer(0))
      element.push(gst_event_new_eos())
      let out = try #require(gst_pad_get_current_caps(element.harness.pointee.sinkpad))
      defer { gst_caps_unref(out) }
      let expected = gst_caps_from_string(caps)
      defer { gst_caps_unref(expected) }
      #expect(gst_caps_is_equal(out, expected) != 0)
    }

    /// Serialized events stay between the frames they came between; end of stream comes last.
    @Test func eventsDoNotOvertakeFrames() throws {
      let element = try TestElement()
      _ = element.pullEvents()
      for index in 0..<3 { element.push(makeBuffer(index)) }
      element.push(gst_event_new_gap(3 * frameDuration, frameDuration))
      #expect(element.pullEvents().isEmpty)
      element.push(makeBuffer(4))
      element.push(gst_event_new_eos())
      #expect(element.pullAll().count == 4)
      #expect(element.pullEvents() == ["gap", "eos"])
    }

    @Test func aNewSegmentDrains() throws {
      let element = try TestElement()
      for index in 0..<3 { element.push(makeBuffer(index)) }
      let segment = gst_segment_new()
      defer { gst_segment_free(segment) }
      gst_segment_init(segment, GST_FORMAT_TIME)
      segment?.pointee.start = 1_000_000_000
      element.push(gst_event_new_segment(segment))
      #expect(element.pullAll().count == 3)
    }

    @Test func upstreamMayUseVideoMeta() throws {
      let element = try TestElement()
      let caps = gst_caps_from_string(rgb(32, 32))
      defer { gst_caps_unref(caps) }
      let query = gst_query_new_allocation(caps, 1)
      defer { gst_query_unref(query) }
      #expect(gst_pad_peer_query(element.harness.pointee.srcpad, query) != 0)
      #expect(gst_query_find_allocation_meta(query, gst_video_meta_api_get_type(), nil) != 0)
    }

    @Test func latencyIsTheWindow() throws {
      let element = try TestElement(["clip-length": "6", "overlap": "2"])
      gst_harness_set_upstream_latency(element.harness, 1_000_000)
      element.push(makeBuffer(0))
      #expect(gst_harness_query_latency(element.harness) == 5 * frameDuration + 1_000_000)
      #expect(!element.messages(GST_MESSAGE_LATENCY).isEmpty)
    }

    @Test func framesPassWhileAModelLoads() throws {
      let element = try TestElement(["while-loading": "passthrough", "strength": "0.9"])
      var untouched = 0
      // The model comes at some time; until then frames leave at once and as they were.
      while element.messages(GST_MESSAGE_LATENCY).isEmpty, untouched < 10_000 {
        element.push(makeBuffer(untouched))
        let out = element.pullAll()
        if out.isEmpty { break }
        #expect(out[0].bytes == laidOut(picture(untouched, 32, 32), 32, 32, channels: 3))
        untouched += 1
        g_usleep(100)
      }
      for index in 0..<8 { element.push(makeBuffer(untouched + index)) }
      #expect(element.pullAll().count >= 6)
    }
  }
}
