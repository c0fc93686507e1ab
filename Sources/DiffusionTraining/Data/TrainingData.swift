public import DiffusionLayers
public import DiffusionPipelines

/// One clip with what is known about it.
public struct TrainingSample: Sendable {
  /// File and number, for messages.
  public var name: String
  /// Frames of one size.
  public var frames: [Frame]
  /// The clip before what the adapter is to do to it, as many frames of the same size; empty without.
  public var source: [Frame] = []
  public var caption: String
  /// Everything else that the data say: `camera`, `amplitude`, `class`, …
  public var label: JSONObject

  public init(name: String, frames: [Frame], caption: String, label: JSONObject = JSONObject()) {
    self.name = name
    self.frames = frames
    self.caption = caption
    self.label = label
  }
}

/// Where clips come from: files, or a source that makes them.
public protocol TrainingData: Sendable {
  /// Number of different samples.
  var count: Int { get }
  /// Whether a sample is the same every time, so that its latents may be kept.
  var isFixed: Bool { get }
  /// Sample `index` below `count`.
  /// - Parameter draw: a number that differs each time the sample is used; sources that vary their clips take their
  ///   randomness from it alone.
  func sample(_ index: Int, draw: UInt64) throws -> TrainingSample
  /// Whether sample `index` comes with a source.
  func hasSource(_ index: Int) -> Bool
  /// Name and label of sample `index`, where they are known without making the sample.
  func label(_ index: Int) -> (name: String, label: JSONObject)?
}

extension TrainingData {
  public func label(_ index: Int) -> (name: String, label: JSONObject)? { nil }
  public func hasSource(_ index: Int) -> Bool { false }
}
