/// One adapter of an element: the child object `lora_N`.

import CGStreamer
import DiffusionPipelines
import GStreamerKit
import Synchronization

// MARK: - Settings

/// What an adapter file does to a clip; `auto` lets the file say.
enum AdapterRole: String, CaseIterable, Sendable {
  case auto, content, style, motion, camera, effect, domain
}

struct LoRASettings: Sendable {
  static let strengthRange = -4.0...4.0

  var path = ""
  var strength = 1.0
  var strengthCurve = ""
  var role = AdapterRole.auto
  var alphaOverRank = 0.0

  /// Whether another value than the strength was set; a change of these loads the adapter anew.
  func loadsLike(_ other: LoRASettings) -> Bool {
    path == other.path && role == other.role && alphaOverRank == other.alphaOverRank
  }
}

// MARK: - Type and properties

let loraType: GType = registerType(
  LoRAObject.self, name: "GstVideoLoRAAdapter", parent: gst_object_get_type())

private let roleType: GType = registerEnum(
  "GstVideoLoRARole",
  AdapterRole.allCases.map {
    ($0.rawValue, $0 == .auto ? "As the file says" : "The adapter brings \($0.rawValue)")
  })

private let loraProperties = PropertyTable<LoRASettings>([
  .string(
    "path", \.path, default: nil, .playing, "Path",
    "Adapter file (.safetensors); takes effect at a clip border"),
  .double(
    "strength", \.strength, LoRASettings.strengthRange, default: 1, .controllable, "Strength",
    "Scale of the adapter, for every output frame; 0 over a whole clip switches it off"),
  .string(
    "strength-curve", \.strengthCurve, default: nil, .playing, "Strength curve",
    "An animated strength as time:value pairs, linear in between, e.g. 0:0, 2s:1, 5s:0.3 (stream time)"),
  .enumeration(
    "role", \.role, type: { roleType }, default: .auto, .playing, "Role", "What the adapter brings"),
  .double(
    "alpha-over-rank", \.alphaOverRank, 0...1000, default: 0, .playing, "Alpha over rank",
    "Scale in place of the file's alpha divided by its rank (0 = as the file says)"),
])

// MARK: - Object

/// The Swift half of `lora_N`. Its `strength` can be driven by a GstController.
final class LoRAObject: ObjectHalf, @unchecked Sendable {
  let settings = Mutex(LoRASettings())

  override class func classInit(_ klass: UnsafeMutableRawPointer) {
    loraProperties.install(klass)
  }

  override func setProperty(
    _ id: UInt32, _ value: UnsafePointer<GValue>, _ spec: UnsafeMutablePointer<GParamSpec>
  ) {
    let (before, after) = settings.withLock { settings in
      let before = settings
      loraProperties.write(id, value, to: &settings)
      return (before, settings)
    }
    if after.strengthCurve != before.strengthCurve {
      applyCurve(after.strengthCurve)
    }
    if !after.loadsLike(before) { owner { $0.adaptersChanged() } }
  }

  override func getProperty(
    _ id: UInt32, _ value: UnsafeMutablePointer<GValue>, _ spec: UnsafeMutablePointer<GParamSpec>
  ) {
    loraProperties.read(id, from: settings.withLock { $0 }, into: value)
  }

  var name: String {
    guard let name = gst_object_get_name(gstObject) else { return "" }
    defer { g_free(name) }
    return String(cString: name)
  }

  /// The strength at a stream time: the controller's value where there is one, else the property.
  func strength(at streamTime: GstClockTime) -> Float {
    if streamTime != gsw_clock_none { gst_object_sync_values(gstObject, streamTime) }
    return Float(settings.withLock { $0.strength })
  }

  /// What the engine is asked to load; nil for a child that has no file.
  func request(strict: Bool) -> AdapterRequest? {
    let settings = settings.withLock { $0 }
    guard !settings.path.isEmpty else { return nil }
    return AdapterRequest(
      path: settings.path, strict: strict,
      alphaOverRank: settings.alphaOverRank > 0 ? Float(settings.alphaOverRank) : nil,
      role: settings.role.rawValue)
  }

  /// Why the curve cannot be used; nil when it can, or when there is none.
  var curveProblem: ElementError? {
    let text = settings.withLock { $0.strengthCurve }
    do {
      _ = try StrengthCurve(text, range: LoRASettings.strengthRange)
      return nil
    } catch {
      return ElementError(.librarySettings, "\(name)::strength-curve: \(error.description)", detail: text)
    }
  }

  /// Binds `strength` to the curve. One that does not parse binds nothing and is an ERROR: at once while the element
  /// runs, else when it is started (before that there may be no bus to hear it).
  private func applyCurve(_ text: String) {
    let curve = try? StrengthCurve(text, range: LoRASettings.strengthRange)
    StrengthCurve.unbind(gstObject, property: "strength")
    if let curve {
      curve.bind(to: gstObject, property: "strength")
    } else if let problem = curveProblem {
      owner { $0.refuse(problem) }
    }
  }

  /// Calls the element this adapter belongs to, if it still has one.
  private func owner(_ body: (DiffusionElement) -> Void) {
    guard let parent = gst_object_get_parent(gstObject) else { return }
    defer { gst_object_unref(parent) }
    if let element = swiftHalf(parent, as: DiffusionElement.self) { body(element) }
  }
}
