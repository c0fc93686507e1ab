import Glibc

/// Whether GStreamer finds the plugin and can run its element.
struct GStreamerCheck {
  static let file = "libgstvideolora.so"
  let model: String

  func findings() -> [Finding] {
    guard let version = Subprocess.run("gst-inspect-1.0", ["--version"], seconds: 20) else {
      return [
        Finding(
          "GStreamer", .failed, "gst-inspect-1.0 is not in PATH",
          remedy: "install the Debian packages gstreamer1.0-tools and gstreamer1.0-plugins-base")
      ]
    }
    let number = version.output.split(separator: "\n").first { $0.hasPrefix("GStreamer ") } ?? "GStreamer"
    return [Finding("GStreamer", .fine, String(number)), plugin(), registry(), element(), run()]
  }

  private func plugin() -> Finding {
    let places = Self.places()
    let found = places.filter { access("\($0)/\(Self.file)", R_OK) == 0 }
    guard let first = found.first else {
      return Finding(
        "plugin", .failed, "\(Self.file) is in none of \(places.joined(separator: ", "))",
        remedy: "run 'make build' and set GST_PLUGIN_PATH to the folder it prints, or run 'make install'")
    }
    guard found.count == 1 else {
      return Finding(
        "plugin", .warning, "several: \(found.joined(separator: ", "))",
        remedy: "keep one; GStreamer takes the newest version it meets")
    }
    return Finding("plugin", .fine, "\(first)/\(Self.file)")
  }

  /// Folders where GStreamer looks, in its order.
  private static func places() -> [String] {
    let variable = getenv("GST_PLUGIN_PATH_1_0") ?? getenv("GST_PLUGIN_PATH")
    var places = (variable.map { String(cString: $0) } ?? "").split(separator: ":").map(String.init)
    if let home = getenv("HOME") {
      places.append(String(cString: home) + "/.local/share/gstreamer-1.0/plugins")
    }
    // The system's folder is where the core elements are.
    let core = Subprocess.run("gst-inspect-1.0", ["coreelements"], seconds: 60)?.output ?? ""
    if let line = core.split(separator: "\n").first(where: { $0.contains("libgstcoreelements.so") }),
      let path = line.split(separator: " ").last, let slash = path.lastIndex(of: "/")
    {
      places.append(String(path[..<slash]))
    }
    return places.map { $0.count > 1 && $0.hasSuffix("/") ? String($0.dropLast()) : $0 }
  }

  private func registry() -> Finding {
    let listing = Subprocess.run("gst-inspect-1.0", ["-b"], seconds: 60)?.output ?? ""
    guard listing.contains(Self.file) else {
      return Finding("registry", .fine, "the plugin is not blacklisted")
    }
    return Finding(
      "registry", .failed, "the plugin is blacklisted: it failed to load once",
      remedy:
        "run 'ldd' on the plugin, install what is missing, then remove ~/.cache/gstreamer-1.0/registry.*.bin")
  }

  private func element() -> Finding {
    let result = Subprocess.run("gst-inspect-1.0", ["videolora"], seconds: 60)
    guard result?.status == 0 else {
      return Finding(
        "element", .failed, "GStreamer knows no element videolora",
        remedy: "see the checks plugin and registry")
    }
    return Finding("element", .fine, "videolora is known")
  }

  /// One frame through the element.
  private func run() -> Finding {
    let pipeline = [
      "-q", "videotestsrc", "num-buffers=1", "!", "video/x-raw,format=RGB,width=64,height=64", "!",
      "videolora",
      "model=\(model)", "steps=1", "!", "fakesink",
    ]
    let result = Subprocess.run("gst-launch-1.0", pipeline, seconds: 300)
    guard result?.status == 0 else {
      let line = result?.output.split(separator: "\n").first {
        $0.contains("ERROR") || $0.contains("no element")
      }
      return Finding(
        "run", .failed, line.map(String.init) ?? "a pipeline of one frame failed",
        remedy: "run: gst-launch-1.0 videotestsrc num-buffers=1 ! videolora ! fakesink")
    }
    return Finding("run", .fine, "one frame went through videolora")
  }
}
