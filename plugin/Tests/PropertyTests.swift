import CGStreamer
import CGStreamerCheck
import Testing

extension ElementTests {
  /// What gst-inspect shows, and what setting does in which state.
  @Suite struct Properties {
    private static let shared = [
      "model", "motion-module", "prompt", "negative-prompt", "prompt-embeds", "steps", "guidance-scale",
      "scheduler", "seed",
      "cache-threshold",
      "clip-length", "loras", "lora-strict", "compose", "precision", "threads", "memory-budget", "stats",
    ]

    @Test(arguments: [
      ("videolora", "Filter/Effect/Video", ["strength", "overlap", "while-loading"]),
      ("videolorasrc", "Source/Video", ["num-clips"]),
    ])
    func everyPropertyIsDocumented(_ name: String, _ klass: String, _ own: [String]) throws {
      _ = gstreamer
      let factory = try #require(gst_element_factory_find(name))
      defer { gst_object_unref(UnsafeMutableRawPointer(factory)) }
      let found = gst_element_factory_get_metadata(factory, "klass").map { String(cString: $0) }
      #expect(found == klass)
      #expect(gst_plugin_feature_get_rank(factory) == 0)

      let element = try #require(gst_element_factory_make(name, nil))
      gst_object_ref_sink(element)
      defer { gst_object_unref(element) }
      let object = UnsafeMutableRawPointer(element).assumingMemoryBound(to: GObject.self)
      let objectClass = UnsafeMutableRawPointer(object.pointee.g_type_instance.g_class).assumingMemoryBound(
        to: GObjectClass.self)
      for property in Self.shared + own {
        let spec = try #require(g_object_class_find_property(objectClass, property), "\(property)")
        let flags = UInt32(bitPattern: Int32(spec.pointee.flags.rawValue))
        let isReadOnly = flags & gsw_param_write == 0
        #expect(
          isReadOnly || flags & (gsw_param_ready | gsw_param_playing) != 0,
          "\(property) says when it may be set")
        #expect((g_param_spec_get_blurb(spec).map { String(cString: $0).count } ?? 0) > 5, "\(property)")
      }
      // The children's properties are introspectable too.
      let child = try #require(gst_child_proxy_get_child_by_name(OpaquePointer(element), "lora_0"))
      defer { g_object_unref(child) }
      let childClass = UnsafeMutableRawPointer(child.pointee.g_type_instance.g_class).assumingMemoryBound(
        to: GObjectClass.self)
      for property in ["path", "strength", "strength-curve", "role", "alpha-over-rank"] {
        #expect(g_object_class_find_property(childClass, property) != nil, "\(property)")
      }
    }

    @Test func readyPropertiesStayPutWhilePlaying() throws {
      let element = try TestElement(["clip-length": "4"])
      element.push(makeBuffer(0))
      _ = element.messages()
      setProperty(element.element, "clip-length", "6")
      let warnings = element.messages(GST_MESSAGE_WARNING)
      #expect(warnings.count == 1)
      #expect(warnings.first?.text.contains("clip-length") == true)
      #expect(element.string("clip-length") == "4")
    }

    @Test func statsCount() throws {
      let element = try TestElement(["clip-length": "4", "overlap": "0"])
      for index in 0..<8 { element.push(makeBuffer(index)) }
      var value = GValue()
      g_object_get_property(
        UnsafeMutableRawPointer(element.element).assumingMemoryBound(to: GObject.self), "stats", &value)
      defer { g_value_unset(&value) }
      let stats = try #require(gst_value_get_structure(&value))
      var count: gint64 = 0
      #expect(gst_structure_get_int64(stats, "clips", &count) != 0 && count == 2, "\(count) clips")
      #expect(gst_structure_get_int64(stats, "frames", &count) != 0 && count == 8, "\(count) frames")
      var seconds = 0.0
      #expect(gst_structure_get_double(stats, "denoise-seconds", &seconds) != 0 && seconds > 0)
    }

    @Test func everyClipTellsItsProgress() throws {
      let element = try TestElement(["clip-length": "4", "overlap": "0", "steps": "4", "strength": "1"])
      for index in 0..<8 { element.push(makeBuffer(index)) }
      let clips = element.messages(GST_MESSAGE_PROGRESS).filter { $0.name == "clip" }
      #expect(clips.filter { $0.progress == GST_PROGRESS_TYPE_START }.count == 2)
      #expect(clips.filter { $0.progress == GST_PROGRESS_TYPE_COMPLETE }.count == 2)
      #expect(clips.filter { $0.progress == GST_PROGRESS_TYPE_CONTINUE }.count >= 6)
    }
  }
}
