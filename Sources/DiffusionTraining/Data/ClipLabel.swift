package import DiffusionLayers

/// What is known about a clip.
package struct ClipLabel: Sendable, Equatable {
  /// The caption as one text; words of a list are joined by spaces.
  package var caption: String?
  /// The caption as single words, where it was given so.
  package var words: [String]?
  /// Name of the clip's class: clips of one class show the same meaning.
  package var className: String?
  /// content, style, motion, camera, effect or domain.
  package var role: String?
  /// Strength of what the clip shows, -1…1.
  package var amplitude: Float?
  package var content: String?
  package var style: String?
  package var motion: String?
  package var camera: String?
  /// Strength of the object's and of the camera's motion, where a file tells them apart.
  package var motionAmplitude: Float?
  package var cameraAmplitude: Float?

  /// Everything that the files say, with the members above among it.
  package var object = JSONObject()

  package init() {}

  static let roles = ["content", "style", "motion", "camera", "effect", "domain"]

  /// Reads an entry of `labels`, or the object of a `.json` file.
  /// - Parameter clip: what messages call the entry.
  package init(_ object: JSONObject, file: String, clip: String) throws(DatasetError) {
    self.object = object
    func text(_ key: String) throws(DatasetError) -> String? {
      guard let value = object[key], value != .null else { return nil }
      guard let text = value.string else {
        throw .label(file: file, reason: "\(clip)'\(key)' must be a text")
      }
      return text
    }
    func number(_ key: String) throws(DatasetError) -> Float? {
      guard let value = object[key], value != .null else { return nil }
      guard let number = value.double, abs(number) <= 1 else {
        throw .label(file: file, reason: "\(clip)'\(key)' must be a number in -1…1")
      }
      return Float(number)
    }
    switch object["caption"] {
    case nil, .null?: break
    case .string(let text)?: caption = text
    case .array(let list)?:
      let words = list.compactMap(\.string)
      guard words.count == list.count else {
        throw .label(file: file, reason: "\(clip)'caption' must be a text or a list of words")
      }
      self.words = words
      caption = words.joined(separator: " ")
    default: throw .label(file: file, reason: "\(clip)'caption' must be a text or a list of words")
    }
    className = try text("class")
    role = try text("role")
    if let role, !Self.roles.contains(role) {
      throw .label(
        file: file, reason: "\(clip)'role' is '\(role)', not one of \(Self.roles.joined(separator: ", "))")
    }
    amplitude = try number("amplitude")
    (content, style) = (try text("content"), try text("style"))
    (motion, camera) = (try text("motion"), try text("camera"))
    (motionAmplitude, cameraAmplitude) = (try number("motion_amp"), try number("camera_amp"))
  }

  /// This label, completed by another one where it says nothing.
  func completed(by other: ClipLabel) -> ClipLabel {
    var result = self
    if caption == nil { (result.caption, result.words) = (other.caption, other.words) }
    for key in other.object.keys where result.object[key] == nil { result.object[key] = other.object[key] }
    result.className = className ?? other.className
    result.role = role ?? other.role
    result.amplitude = amplitude ?? other.amplitude
    result.content = content ?? other.content
    result.style = style ?? other.style
    result.motion = motion ?? other.motion
    result.camera = camera ?? other.camera
    result.motionAmplitude = motionAmplitude ?? other.motionAmplitude
    result.cameraAmplitude = cameraAmplitude ?? other.cameraAmplitude
    return result
  }
}
