import CGStreamer
import CGStreamerCheck
import Glibc
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

    @Test func aWordTheModelDoesNotKnow() throws {
      try expectOne(["prompt": "xyzzy"], naming: ["xyzzy"])
    }

    @Test func aMalformedCurve() throws {
      let element = try TestElement(["lora_0::strength-curve": "0:0, two:1"])
      let errors = element.messages(GST_MESSAGE_ERROR)
      #expect(errors.count == 1)
      #expect(errors.first?.text.contains("lora_0::strength-curve") == true)
      #expect(errors.first?.text.contains("two") == true)
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
