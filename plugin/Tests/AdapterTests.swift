import CGStreamer
import CGStreamerCheck
import DiffusionLayers
import Glibc
import TensorCore
import TestSupport
import Testing

extension ElementTests {
  /// Adapters as children: making, naming, animating, changing.
  @Suite struct Adapters {
    /// A LoRA of rank 2 that moves the tiny model's first attention far.
    private static let adapter: String = {
      let path = "/tmp/videolora-test-\(getpid())-adapter.safetensors"
      var random = TorchRandom(seed: 9)
      var writer = SafetensorsWriter(metadata: [("role", "style")])
      for layer in ["to_q", "to_k", "to_v", "to_out.0"] {
        for block in 0..<2 {
          let name = "transformer.blocks.\(block).attn1.\(layer)"
          writer.add(name + ".lora_A.weight", random.randn([2, 32]))
          writer.add(name + ".lora_B.weight", random.randn([32, 2]))
        }
      }
      do { try writer.write(to: path) } catch { Issue.record("\(error)") }
      atexit { unlink("/tmp/videolora-test-\(getpid())-adapter.safetensors") }
      return path
    }()

    private func run(_ properties: KeyValuePairs<String, String>, count: Int = 8) throws -> [[UInt8]] {
      let element = try TestElement(properties)
      for index in 0..<count { element.push(makeBuffer(index)) }
      element.push(gst_event_new_eos())
      let errors = element.messages(GST_MESSAGE_ERROR)
      #expect(errors.isEmpty, "\(errors.map(\.text))")
      return element.pullAll().map(\.bytes)
    }

    @Test func aFileBecomesAChildAndReportsItself() throws {
      let element = try TestElement(["loras": "<\(Self.adapter)>"])
      element.push(makeBuffer(0))
      let reports = element.messages().filter { $0.name == "videolora-adapter" }
      #expect(reports.count == 1)
      let text = reports.first?.text ?? ""
      for part in ["child=(string)lora_0", "role=(string)style", "rank=(gint64)2", "matched-keys=(gint64)16"]
      {
        #expect(text.contains(part), "\(part) in \(text)")
      }
      #expect(gst_child_proxy_get_children_count(OpaquePointer(element.element)) == 1)
      #expect(element.string("loras")?.contains(Self.adapter) == true)
    }

    @Test func childrenMayBeSetBeforeTheirFiles() throws {
      let after = try run(["loras": "<\(Self.adapter)>", "lora_0::strength": "0.5"])
      let before = try run(["lora_0::strength": "0.5", "loras": "<\(Self.adapter)>"])
      let alone = try run(["lora_0::strength": "0.5", "lora_0::path": Self.adapter])
      #expect(after == before)
      #expect(after == alone)
      #expect(after != (try run([:])))
    }

    @Test func strengthZeroIsTheModelWithoutIt() throws {
      #expect(try run(["loras": "<\(Self.adapter)>", "lora_0::strength": "0"]) == run([:]))
    }

    @Test func aChildWithoutAFileIsWarnedAbout() throws {
      let element = try TestElement(["lora_3::strength": "0.5", "loras": "<\(Self.adapter)>"])
      element.push(makeBuffer(0))
      let warnings = element.messages(GST_MESSAGE_WARNING).map(\.text)
      #expect(warnings.contains { $0.contains("lora_3") })
      #expect(!warnings.contains { $0.contains("lora_0") })
    }

    @Test func aShorterListRemovesChildren() throws {
      let element = try TestElement(["loras": "<\(Self.adapter), \(Self.adapter)>"])
      #expect(gst_child_proxy_get_children_count(OpaquePointer(element.element)) == 2)
      setProperty(element.element, "loras", "<\(Self.adapter)>")
      #expect(gst_child_proxy_get_children_count(OpaquePointer(element.element)) == 1)
    }

    @Test func lookingUpLeavesNoReference() throws {
      let element = try TestElement(["lora_0::strength": "0.5", "lora_0::role": "style"])
      let child = try #require(gst_child_proxy_get_child_by_name(OpaquePointer(element.element), "lora_0"))
      defer { g_object_unref(child) }
      // The element's and this one.
      #expect(child.pointee.ref_count == 2)
    }

    @Test func unknownChildrenAreNotMade() throws {
      let element = try TestElement()
      for name in ["lora_64", "lora_-1", "lora_01", "lora_", "foo_0"] {
        #expect(gst_child_proxy_get_child_by_name(OpaquePointer(element.element), name) == nil, "\(name)")
      }
    }

    /// A controller on the child: its value follows every frame's stream time.
    @Test func theCurveDrivesTheChildPerFrame() throws {
      let element = try TestElement([
        "loras": "<\(Self.adapter)>", "lora_0::strength-curve": "0:0, 0.2s:1, 400ms:-1",
      ])
      var seen: [Double] = []
      for index in 0..<12 {
        element.push(makeBuffer(index))
        seen.append(element.double("lora_0::strength"))
      }
      let expected = (0..<12).map { index -> Double in
        let time = Double(index) * 0.04
        return time < 0.2 ? time / 0.2 : time < 0.4 ? 1 - (time - 0.2) * 10 : -1
      }
      for (index, (value, wanted)) in zip(seen, expected).enumerated() {
        #expect(abs(value - wanted) < 1e-6, "frame \(index): \(value), expected \(wanted)")
      }
    }

    /// Frames before a step of the strength change less than those after it.
    @Test func anAnimatedStrengthActsPerFrame() throws {
      let plain = try run([:])
      let stepped = try run(["loras": "<\(Self.adapter)>", "lora_0::strength-curve": "140ms:0, 150ms:1"])
      let change = zip(plain, stepped).map { a, b in
        zip(a, b).reduce(0) { $0 + abs(Int($1.0) - Int($1.1)) }
      }
      #expect(change[4...7].reduce(0, +) > change[0...3].reduce(0, +), "\(change)")
    }

    /// Stream time, not running time: a segment that starts later shifts the curve with it.
    @Test func theCurveFollowsStreamTime() throws {
      let element = try TestElement(
        ["loras": "<\(Self.adapter)>", "lora_0::strength-curve": "1s:0, 2s:1"], caps: nil)
      gst_harness_set_src_caps_str(element.harness, rgb(32, 32))
      let segment = gst_segment_new()
      defer { gst_segment_free(segment) }
      gst_segment_init(segment, GST_FORMAT_TIME)
      segment?.pointee.start = 10_000_000_000
      segment?.pointee.time = 1_500_000_000
      element.push(gst_event_new_segment(segment))
      element.push(makeBuffer(0, pts: 10_000_000_000))
      #expect(abs(element.double("lora_0::strength") - 0.5) < 1e-6)
    }

    @Test func anEmptyCurveSetsTheStrengthFree() throws {
      let element = try TestElement(["lora_0::strength-curve": "0:0.5"])
      setProperty(element.element, "lora_0::strength-curve", "")
      setProperty(element.element, "lora_0::strength", "2")
      element.push(makeBuffer(0))
      #expect(element.double("lora_0::strength") == 2)
    }

    /// Adapters set while playing act from a clip border on; no frame is lost.
    @Test func adaptersChangeAtAClipBorder() throws {
      let properties: KeyValuePairs = ["clip-length": "4", "overlap": "1", "seed": "4"]
      let plain = try run(properties, count: 30)
      let element = try TestElement(properties)
      for index in 0..<6 { element.push(makeBuffer(index)) }
      _ = element.messages()
      setProperty(element.element, "loras", "<\(Self.adapter)>")
      let loaded = element.messages { $0.name == "load" && $0.progress == GST_PROGRESS_TYPE_COMPLETE }
      #expect(loaded.contains { $0.name == "videolora-adapter" })
      g_usleep(20_000)
      for index in 6..<30 { element.push(makeBuffer(index)) }
      element.push(gst_event_new_eos())
      let frames = element.pullAll()
      #expect(frames.map(\.pts) == (0..<30).map { GstClockTime($0) * frameDuration })
      #expect(frames[0].bytes == plain[0])
      #expect(frames[20].bytes != plain[20])
      #expect(element.messages(GST_MESSAGE_ERROR).isEmpty)
    }

    /// The second element of a model takes the first one's: it reads nothing, so its load has no steps to tell.
    @Test func twoElementsShareAModel() throws {
      let first = try TestElement(["loras": "<\(Self.adapter)>"])
      first.push(makeBuffer(0))
      #expect(first.messages(GST_MESSAGE_PROGRESS).contains { $0.progress == GST_PROGRESS_TYPE_CONTINUE })
      let second = try TestElement()
      for index in 0..<8 { second.push(makeBuffer(index)) }
      #expect(
        !second.messages(GST_MESSAGE_PROGRESS).contains {
          $0.name == "load" && $0.progress == GST_PROGRESS_TYPE_CONTINUE
        })
      let alone = second.pullAll().map(\.bytes)
      // One is gone, the other goes on.
      first.tearDown()
      for index in 8..<16 { #expect(second.push(makeBuffer(index)) == GST_FLOW_OK) }
      second.push(gst_event_new_eos())
      #expect(alone + second.pullAll().map(\.bytes) == (try run([:], count: 16)))
    }
  }
}
