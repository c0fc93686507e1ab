/// The plugin `videolora`: entry points and what it registers.

public import CGStreamer
import GStreamerKit

// GStreamer keeps the descriptor for the life of the process; nobody writes to it after this.
nonisolated(unsafe) private let descriptor: UnsafeMutablePointer<GstPluginDesc> = {
  let descriptor = UnsafeMutablePointer<GstPluginDesc>.allocate(capacity: 1)
  descriptor.initialize(to: GstPluginDesc())
  descriptor.pointee.major_version = GST_VERSION_MAJOR
  descriptor.pointee.minor_version = GST_VERSION_MINOR
  descriptor.pointee.name = immortal("videolora")
  descriptor.pointee.description = immortal("Video diffusion with LoRA adapters")
  descriptor.pointee.plugin_init = { plugin in
    let rank = guint(GST_RANK_NONE.rawValue)
    gst_type_mark_as_plugin_api(loraType, GstPluginAPIFlags(rawValue: 0))
    guard gst_element_register(plugin, "videolora", rank, videoLoRAType) != 0 else { return 0 }
    return gst_element_register(plugin, "videolorasrc", rank, videoLoRASourceType)
  }
  descriptor.pointee.version = immortal("0.1.0")
  descriptor.pointee.license = immortal("Apache-2.0")
  descriptor.pointee.source = immortal("gst-videolora")
  descriptor.pointee.package = immortal("gst-videolora")
  descriptor.pointee.origin = immortal("gst-videolora")
  descriptor.pointee.release_datetime = immortal("2026-11-21")
  return descriptor
}()

private func immortal(_ text: StaticString) -> UnsafePointer<CChar> {
  UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
}

/// Called by GStreamer when it loads `libgstvideolora.so`.
// swift-format-ignore: AlwaysUseLowerCamelCase
@c @implementation public func gst_plugin_videolora_get_desc() -> UnsafePointer<GstPluginDesc>! {
  UnsafePointer(descriptor)
}

/// Registers the plugin in a program that is linked with it.
// swift-format-ignore: AlwaysUseLowerCamelCase
@c @implementation public func gst_plugin_videolora_register() {
  let plugin = descriptor.pointee
  gst_plugin_register_static(
    plugin.major_version, plugin.minor_version, plugin.name, plugin.description, plugin.plugin_init,
    plugin.version, plugin.license, plugin.source, plugin.package, plugin.origin)
}

/// GstPreset with its default methods: presets are files beside the plugin and in the user's home.
func presetInterface() -> InterfaceImplementation {
  InterfaceImplementation(type: gst_preset_get_type()) { _, _ in }
}
