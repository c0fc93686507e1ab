import CGStreamer
import CGStreamerCheck
import DiffusionLayers
import Glibc
import TensorCore
import TestSupport
import Testing

extension ElementTests {
  /// Bad input: one ERROR that names the culprit, and the process goes on.
  @Suite struct Failures {
    /// Sends a clip and returns the errors on the bus.
    private func errors(_ properties: KeyValuePairs<String, String>) throws -> [BusMessage] {
      let element = try TestElement(properties)
      for index in 0..<8 {
        let flow = element.push(makeBuffer(index))
        #expect(flow == GST_FLOW_OK || flow == GST_FLOW_ERROR)
      }
      element.push(gst_event_new_eos())
      #expect(element.pullAll().isEmpty)
      let all = element.messages()
      #expect(!all.contains { $0.progress == GST_PROGRESS_TYPE_COMPLETE && $0.name == "clip" })
      element.tearDown()
      return (all + element.messages()).filter { $0.type == GST_MESSAGE_ERROR }
    }

    private func expectOne(_ properties: KeyValuePairs<String, String>, naming parts: [String]) throws {
      let errors = try errors(properties)
      #expect(errors.count == 1, "\(errors.map(\.text))")
      for part in parts { #expect(errors.first?.text.contains(part) == true, "\(errors.map(\.text))") }
    }

    private func file(_ name: String, _ bytes: [UInt8]) -> String {
      let path = "/tmp/videolora-test-\(getpid())-\(name)"
      let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
      _ = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
      close(descriptor)
      return path
    }

    @Test func aModelThatIsNotThere() throws {
      try expectOne(["model": "/nowhere/model"], naming: ["model", "/nowhere/model"])
      #expect(try errors(["model": "/nowhere/model"]).first?.name == "gst-resource-error-quark")
    }

    @Test func anUnknownBuiltin() throws {
      try expectOne(["model": "builtin:giant"], naming: ["giant"])
    }

    @Test func anAdapterThatIsNotThere() throws {
      try expectOne(
        ["loras": "</nowhere/style.safetensors>"], naming: ["lora", "/nowhere/style.safetensors"])
    }

    @Test func anAdapterForAnotherModel() throws {
      let path = Fixture.path("wan_tiny_loras/wan_tiny.peft.safetensors")
      try expectOne(["loras": "<\(path)>"], naming: ["lora", "wan_tiny.peft.safetensors"])
    }

    @Test func aPickle() throws {
      let path = file("model.ckpt", [0x80, 2] + Array("}q\u{0}(X".utf8) + [UInt8](repeating: 0, count: 40))
      defer { unlink(path) }
      try expectOne(["lora_0::path": path], naming: ["lora", path])
    }

    @Test func aGitLFSPointer() throws {
      let path = file(
        "style.safetensors",
        Array("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 1234567\n".utf8))
      defer { unlink(path) }
      try expectOne(["loras": "<\(path)>"], naming: ["lora", path, "LFS"])
    }

    @Test func tooSmallABudget() throws {
      try expectOne(["memory-budget": "1000"], naming: ["memory-budget", "MiB"])
    }

    @Test func embeddingsThatAreNotThere() throws {
      let properties: KeyValuePairs = ["prompt-embeds": "/nowhere/e.safetensors"]
      try expectOne(properties, naming: ["prompt-embeds", "/nowhere/e.safetensors"])
      #expect(try errors(properties).first?.name == "gst-resource-error-quark")
      let path = file("embeds.safetensors", [1, 2, 3])
      defer { unlink(path) }
      try expectOne(["prompt-embeds": path], naming: ["prompt-embeds", path])
    }

    @Test func aWordTheModelDoesNotKnow() throws {
      try expectOne(["prompt": "xyzzy"], naming: ["xyzzy"])
    }

    @Test func aMalformedCurve() throws {
      let element = try TestElement()
      element.push(makeBuffer(0))
      setProperty(element.element, "lora_0::strength-curve", "0:0, two:1")
      let errors = element.messages(GST_MESSAGE_ERROR)
      #expect(errors.count == 1)
      #expect(element.push(makeBuffer(1)) == GST_FLOW_ERROR)
      #expect(errors.first?.text.contains("lora_0::strength-curve") == true)
      #expect(errors.first?.text.contains("two") == true)
    }

    /// As on a gst-launch line: the value comes before there is a bus, the ERROR at the start.
    @Test func settingsThatCannotWorkStopTheStart() throws {
      for (properties, part) in [
        (["clip-length": "4", "overlap": "4"], "overlap=4"), (["model": ""], "model"),
        (["lora_0::strength-curve": "0:9"], "lora_0::strength-curve"),
        (["prompt": String(repeating: "sea ", count: 20_000)], "prompt"),
      ] {
        _ = gstreamer
        let element = try #require(gst_element_factory_make("videolora", nil))
        gst_object_ref_sink(element)
        for (name, value) in properties { setProperty(element, name, value) }
        let bus = try #require(gst_bus_new())
        gst_element_set_bus(element, bus)
        #expect(gst_element_set_state(element, GST_STATE_PLAYING) == GST_STATE_CHANGE_FAILURE)
        gst_element_set_state(element, GST_STATE_NULL)
        let errors = CGStreamerMessages.take(bus).filter { $0.type == GST_MESSAGE_ERROR }
        #expect(errors.count == 1 && errors.first?.text.contains(part) == true, "\(errors.map(\.text))")
        gst_object_unref(element)
        gst_object_unref(bus)
      }
    }

    /// Half of the keys fit: an error that names one of the others, or with lora-strict=false an adapter of that half.
    @Test func anAdapterThatFitsInHalf() throws {
      let path = "/tmp/videolora-test-\(getpid())-half.safetensors"
      defer { unlink(path) }
      var writer = SafetensorsWriter()
      for name in ["transformer.blocks.0.attn1.to_q", "transformer.blocks.7.attn1.to_q"] {
        writer.add(name + ".lora_A.weight", Tensor([Float](repeating: 0.1, count: 64), shape: [2, 32]))
        writer.add(name + ".lora_B.weight", Tensor([Float](repeating: 0.1, count: 64), shape: [32, 2]))
      }
      try writer.write(to: path)
      try expectOne(["loras": "<\(path)>"], naming: ["lora", path, "blocks.7"])
      let element = try TestElement(["loras": "<\(path)>", "lora-strict": "false"])
      #expect(element.push(makeBuffer(0)) == GST_FLOW_OK)
      let report = element.messages().first { $0.name == "videolora-adapter" }?.text ?? ""
      #expect(report.contains("matched-keys=(gint64)2") && report.contains("blocks.7"), "\(report)")
    }

    @Test func anAdapterWithNotANumber() throws {
      let path = "/tmp/videolora-test-\(getpid())-nan.safetensors"
      defer { unlink(path) }
      var writer = SafetensorsWriter()
      let name = "transformer.blocks.0.attn1.to_q"
      writer.add(name + ".lora_A.weight", Tensor([Float](repeating: .nan, count: 64), shape: [2, 32]))
      writer.add(name + ".lora_B.weight", Tensor([Float](repeating: 0.1, count: 64), shape: [32, 2]))
      try writer.write(to: path)
      try expectOne(["loras": "<\(path)>"], naming: ["lora", path, "blocks.0"])
    }

    @Test func anErrorIsForgottenWhenTheElementStartsAgain() throws {
      let element = try TestElement(["model": "/nowhere/model"])
      #expect(element.push(makeBuffer(0)) == GST_FLOW_ERROR)
      gst_element_set_state(element.element, GST_STATE_NULL)
      setProperty(element.element, "model", tinyModel)
      gst_element_set_state(element.element, GST_STATE_PLAYING)
      gst_harness_set_src_caps_str(element.harness, rgb(32, 32))
      let segment = gst_segment_new()
      defer { gst_segment_free(segment) }
      gst_segment_init(segment, GST_FORMAT_TIME)
      element.push(gst_event_new_segment(segment))
      #expect(element.push(makeBuffer(0)) == GST_FLOW_OK)
      element.push(gst_event_new_eos())
      #expect(element.pullAll().count == 1)
    }
  }
}
