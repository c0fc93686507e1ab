/// What `videolora` and `videolorasrc` have in common: settings, adapters as children, and the model's life.

import CGStreamer
import DiffusionPipelines
import GStreamerKit
import Synchronization
import TensorCore

class DiffusionElement: ObjectHalf, ChildContainer, @unchecked Sendable {
  // MARK: State

  let settings = Mutex(Settings())
  /// Stops the run in progress.
  let cancellation = Cancellation()
  let hasFailed = Atomic<Bool>(false)
  /// The clip whose PROGRESS has started and not ended.
  let openClip = Mutex<Int?>(nil)
  /// Tenths of a load that were announced.
  let loadedTenth = Atomic<Int>(0)
  let stats = Mutex(RunStats())
  private let adapters = Mutex<[LoRAObject]>([])
  private let isRunning = Atomic<Bool>(false)
  private(set) lazy var loader = ModelLoader { [unowned self] event in self.report(event) }

  required init(_ raw: UnsafeMutableRawPointer) {
    super.init(raw)
    _ = loader
  }

  /// The model is loaded or has new adapters; called on the loading thread.
  func modelIsReady(_ loaded: LoadedModel) {}

  // MARK: Properties

  class var properties: PropertyTable<Settings> { PropertyTable([]) }
  private static let mostAdapters = 64
  private var lorasID: UInt32 { UInt32(Self.properties.properties.count + 1) }
  private var statsID: UInt32 { lorasID + 1 }

  override class func classInit(_ klass: UnsafeMutableRawPointer) {
    properties.install(klass)
    let objectClass = klass.assumingMemoryBound(to: GObjectClass.self)
    let first = guint(properties.properties.count + 1)
    g_object_class_install_property(
      objectClass, first,
      gst_param_spec_array(
        "loras", "LoRAs",
        "Adapter files as <a.safetensors, b.safetensors>; each becomes a child lora_N with path, strength "
          + "(controllable), strength-curve, role and alpha-over-rank, set as lora_0::strength=0.8",
        g_param_spec_string("file", "File", "Adapter file", nil, Mutability.playing.flags),
        Mutability.playing.flags))
    g_object_class_install_property(
      objectClass, first + 1,
      g_param_spec_boxed(
        "stats", "Statistics",
        "Clips and frames so far, seconds per stage, peak bytes of the engine",
        gsw_type_structure(), Mutability.readOnly.flags))
    klass.assumingMemoryBound(to: GstElementClass.self).pointee.change_state = { element, transition in
      guard let element, let half = swiftHalf(element, as: DiffusionElement.self) else {
        return GST_STATE_CHANGE_FAILURE
      }
      return half.changeState(transition)
    }
  }

  override func setProperty(
    _ id: UInt32, _ value: UnsafePointer<GValue>, _ spec: UnsafeMutablePointer<GParamSpec>
  ) {
    guard id != lorasID else { return setAdapters(value) }
    guard let property = Self.properties[id] else { return }
    if property.mutability == .ready, isRunning.load(ordering: .acquiring) {
      return postWarning(
        ElementError(
          .librarySettings,
          "\(property.name) can be set in NULL and READY only and keeps its value; stop the element first"))
    }
    settings.withLock { Self.properties.write(id, value, to: &$0) }
  }

  override func getProperty(
    _ id: UInt32, _ value: UnsafeMutablePointer<GValue>, _ spec: UnsafeMutablePointer<GParamSpec>
  ) {
    switch id {
    case lorasID:
      for child in adapters.withLock({ $0 }) {
        let path = child.settings.withLock { $0.path }
        guard !path.isEmpty else { continue }
        var item = GValue()
        g_value_init(&item, gsw_type_string())
        g_value_set_string(&item, path)
        gst_value_array_append_and_take_value(value, &item)
      }
    case statsID:
      g_value_take_boxed(value, stats.withLock { $0 }.structure.take())
    default:
      Self.properties.read(id, from: settings.withLock { $0 }, into: value)
    }
  }

  override func dispose() {
    for child in adapters.withLock({ list in
      defer { list = [] }
      return list
    }) {
      gst_object_unparent(child.gstObject)
    }
  }

  // MARK: Adapters

  var children: [ObjectHalf] { adapters.withLock { $0 } }

  /// `lora_N`. A child that does not exist yet is made, so that its properties may come before its file.
  func child(named name: String) -> ObjectHalf? {
    let prefix = "lora_"
    guard name.hasPrefix(prefix), let index = Int(name.dropFirst(prefix.count)), name == "\(prefix)\(index)",
      (0..<Self.mostAdapters).contains(index)
    else { return nil }
    return growAdapters(to: index + 1).last
  }

  /// Makes children up to `count`; returns the first `count` of them.
  private func growAdapters(to count: Int) -> [LoRAObject] {
    let (all, new) = adapters.withLock { list -> ([LoRAObject], [LoRAObject]) in
      let before = list.count
      while list.count < count {
        guard let raw = g_object_new_with_properties(loraType, 0, nil, nil),
          let child = swiftHalf(raw, as: LoRAObject.self)
        else { break }
        gst_object_set_name(child.gstObject, "lora_\(list.count)")
        gst_object_set_parent(child.gstObject, gstObject)
        list.append(child)
      }
      return (Array(list.prefix(count)), Array(list.dropFirst(before)))
    }
    for child in new { announceAdded(child, name: child.name) }
    return all
  }

  /// The `loras` property: fills the children's paths, and removes loaded children beyond the list.
  private func setAdapters(_ value: UnsafePointer<GValue>) {
    let paths = (0..<gst_value_array_get_size(value)).map { index -> String in
      gst_value_array_get_value(value, index).flatMap { g_value_get_string($0) }.map { String(cString: $0) }
        ?? ""
    }
    guard paths.count <= Self.mostAdapters else {
      return postWarning(
        ElementError(
          .librarySettings,
          "loras names \(paths.count) files and keeps its value; at most \(Self.mostAdapters) fit one element"
        ))
    }
    let kept = growAdapters(to: paths.count)
    for (child, path) in zip(kept, paths) { child.settings.withLock { $0.path = path } }

    let removed = adapters.withLock { list -> [LoRAObject] in
      let beyond = list.dropFirst(paths.count)
      guard beyond.contains(where: { $0.settings.withLock { !$0.path.isEmpty } }) else { return [] }
      list.removeLast(beyond.count)
      return Array(beyond)
    }
    for child in removed {
      announceRemoved(child, name: child.name)
      gst_object_unparent(child.gstObject)
    }
    adaptersChanged()
  }

  /// Loads the adapters anew; the stream takes them at its next clip border.
  func adaptersChanged() {
    guard isRunning.load(ordering: .acquiring) else { return }
    let request = loadRequest()
    category.info(self, "loading \(request.adapters.count) adapters")
    loader.change(request)
  }

  /// A child's setting cannot be used: an ERROR, as the application cannot see it otherwise. Before the start there may
  /// be no bus yet, so `start` looks again.
  func refuse(_ error: ElementError) {
    if isRunning.load(ordering: .acquiring) { fail(error) }
  }

  private func loadRequest() -> LoadRequest {
    let settings = settings.withLock { $0 }
    return LoadRequest(
      key: SharedModels.Key(
        path: settings.model, precision: settings.precision, memoryBudget: settings.memoryBudget,
        motionModule: settings.motionModule),
      adapters: adapters.withLock { $0 }.compactMap { child in
        child.request(strict: settings.loraStrict).map { (ObjectRef(child), $0) }
      })
  }

  // MARK: State changes

  private func changeState(_ transition: GstStateChange) -> GstStateChangeReturn {
    switch transition {
    case GST_STATE_CHANGE_READY_TO_PAUSED:
      guard start() else { return GST_STATE_CHANGE_FAILURE }
    case GST_STATE_CHANGE_PAUSED_TO_READY:
      // Before chaining up: deactivating the pads waits for the streaming thread.
      interrupt()
    default:
      break
    }
    let result =
      parentClass(of: raw, as: GstElementClass.self)?.pointee.change_state?(element, transition)
      ?? GST_STATE_CHANGE_FAILURE
    if transition == GST_STATE_CHANGE_PAUSED_TO_READY
      || (transition == GST_STATE_CHANGE_READY_TO_PAUSED && result == GST_STATE_CHANGE_FAILURE)
    {
      stop()
    }
    return result
  }

  private func start() -> Bool {
    let settings = settings.withLock { $0 }
    hasFailed.store(false, ordering: .releasing)
    cancellation.reset()
    openClip.withLock { $0 = nil }
    stats.withLock { $0 = RunStats() }
    let children = adapters.withLock { $0 }
    if let problem = settings.problem ?? children.lazy.compactMap(\.curveProblem).first {
      fail(problem)
      return false
    }
    if settings.threads > 0, !EngineThreads.request(settings.threads) {
      postWarning(
        ElementError(
          .librarySettings,
          "threads=\(settings.threads) has no effect: the process already runs with \(EngineThreads.count); "
            + "set the same number on every element"))
    }
    for child in children where child.request(strict: true) == nil {
      postWarning(
        ElementError(
          .librarySettings,
          "\(child.name) has no file and does nothing; name one in loras or \(child.name)::path"))
    }
    isRunning.store(true, ordering: .releasing)
    let request = loadRequest()
    category.info(self, "loading \(request.key.path) with \(request.adapters.count) adapters")
    loader.start(request)
    return true
  }

  private func interrupt() {
    isRunning.store(false, ordering: .releasing)
    cancellation.cancel()
    loader.cancel()
  }

  private func stop() {
    interrupt()
    loader.finish()
    modelIsGone()
  }

  /// The element is in READY again: whatever holds the model lets go of it.
  func modelIsGone() {}

  /// Lets the next run go on after a flush, unless the element is being stopped.
  func resume() {
    guard isRunning.load(ordering: .acquiring) else { return }
    category.debug(self, "running again")
    cancellation.reset()
    loader.setInterrupted(false)
    if !isRunning.load(ordering: .acquiring) { interrupt() }
  }

  /// Stops the run in progress at once.
  func pauseRun() {
    category.debug(self, "stopping the run in progress")
    cancellation.cancel()
    loader.setInterrupted(true)
  }
}

/// What the `stats` property shows.
struct RunStats: Sendable {
  var stages = StageSeconds()
  /// Frames that have left the element, changed or not.
  var frames = 0

  var structure: StructureBuilder {
    StructureBuilder("videolora-stats")
      .set("clips", stages.clips).set("frames", frames)
      .set("text-seconds", stages.text).set("encode-seconds", stages.encode)
      .set("denoise-seconds", stages.denoise).set("decode-seconds", stages.decode)
      .set("steps", stages.steps).set("cached-steps", stages.cachedSteps)
      .set("peak-bytes", UInt64(clamping: stages.peakBytes))
  }
}
