import CGStreamer
import CGStreamerCheck
import Glibc
import TestSupport
import Testing

extension ElementTests {
  /// `videolorasrc`: clips from a prompt.
  @Suite struct Source {
    /// Runs a pipeline into a fakesink and returns what reached it, with the bus messages.
    private func run(_ launch: String) throws -> (frames: [OutputFrame], messages: [BusMessage]) {
      _ = gstreamer
      let harness = try #require(gst_harness_new_parse(launch))
      defer { gst_harness_teardown(harness) }
      let bus = try #require(gst_bus_new())
      defer {
        gst_bus_set_flushing(bus, 1)
        gst_object_unref(bus)
      }
      gst_element_set_bus(harness.pointee.element, bus)
      // Not gst_harness_play, which aborts when the bin's state change meets an ERROR.
      gst_element_set_state(harness.pointee.element, GST_STATE_PLAYING)
      var frames: [OutputFrame] = []
      var messages: [BusMessage] = []
      for _ in 0..<2000 {
        frames += pulledFrames(harness)
        messages += CGStreamerMessages.take(bus)
        guard let event = gst_harness_try_pull_event(harness) else {
          g_usleep(5000)
          continue
        }
        defer { gst_event_unref(event) }
        if event.pointee.type == GST_EVENT_EOS { break }
      }
      // The last frames may have come between the look for them and the EOS.
      frames += pulledFrames(harness)
      messages += CGStreamerMessages.take(bus)
      return (frames, messages)
    }

    @Test func clipsTimesTheirLength() throws {
      let (frames, messages) = try run(
        "videolorasrc model=\(tinyModel) num-clips=2 clip-length=5 steps=2 seed=3 ! "
          + "capsfilter caps=\(rgb(24, 16, rate: "10/1"))")
      #expect(messages.filter { $0.type == GST_MESSAGE_ERROR }.map(\.text) == [])
      #expect(frames.map(\.pts) == (0..<10).map { GstClockTime($0) * 100_000_000 })
      #expect(frames.allSatisfy { $0.duration == 100_000_000 && $0.bytes.count == 24 * 16 * 3 })
      try #require(frames.count == 10)
      #expect(frames[0].bytes != frames[5].bytes)
    }

    @Test func withoutCapsItHasTheTrainedSize() throws {
      let (frames, _) = try run("videolorasrc model=\(tinyModel) clip-length=1 steps=1")
      #expect(frames.count == 1)
      // 24x24 is what the model was trained for.
      #expect([24 * 24 * 3, 24 * 24 * 4].contains(frames.first?.bytes.count))
    }

    @Test func aMissingModelIsOneError() throws {
      let (frames, messages) = try run("videolorasrc model=/nowhere/model")
      #expect(frames.isEmpty)
      let errors = messages.filter { $0.type == GST_MESSAGE_ERROR }
      #expect(errors.count == 1)
      #expect(errors.first?.text.contains("/nowhere/model") == true)
    }

    @Test func aFailingClipIsOneError() throws {
      let (frames, messages) = try run("videolorasrc model=\(tinyModel) prompt=xyzzy")
      #expect(frames.isEmpty)
      let errors = messages.filter { $0.type == GST_MESSAGE_ERROR }
      #expect(errors.count == 1 && errors.first?.text.contains("xyzzy") == true, "\(errors.map(\.text))")
    }

    /// The engine calls it frames; the user set clip-length.
    @Test func aLengthTheModelCannotHaveIsNamedAsTheProperty() throws {
      let folder = "/tmp/videolora-test-\(getpid())-lengths"
      mkdir(folder, 0o755)
      defer {
        for name in ["model_index.json", "transformer", "vae"] { unlink("\(folder)/\(name)") }
        rmdir(folder)
      }
      symlink(Fixture.path("wan_tiny/transformer"), folder + "/transformer")
      symlink(Fixture.path("autoencoder_kl_wan/vae"), folder + "/vae")
      let index = try #require(fopen(folder + "/model_index.json", "w"))
      fputs(
        #"{"transformer": ["diffusers", "WanTransformer3DModel"], "vae": ["diffusers", "AutoencoderKLWan"]}"#,
        index)
      fclose(index)
      let (frames, messages) = try run("videolorasrc model=\(folder) clip-length=6")
      #expect(frames.isEmpty)
      let errors = messages.filter { $0.type == GST_MESSAGE_ERROR }
      #expect(
        errors.count == 1 && errors.first?.text.contains("clip-length=6 must be 4n + 1") == true,
        "\(errors.map(\.text))")
    }

    @Test func sameSeedSameVideo() throws {
      let launch =
        "videolorasrc model=\(tinyModel) clip-length=2 steps=1 seed=8 ! capsfilter caps=\(rgb(24, 16))"
      #expect(try run(launch).frames.map(\.bytes) == run(launch).frames.map(\.bytes))
    }
  }
}
