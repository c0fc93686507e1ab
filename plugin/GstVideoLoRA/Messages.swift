/// What the elements tell the application on the bus.

import CGStreamer
import DiffusionPipelines
import GStreamerKit
import Synchronization

extension DiffusionElement {
  // MARK: Loading

  func report(_ event: LoadEvent) {
    switch event {
    case .started(let text):
      loadedTenth.store(0, ordering: .relaxed)
      postProgress(GST_PROGRESS_TYPE_START, "load", text)
    case .progress(let progress):
      // The engine tells about every tensor; the bus hears of every tenth of the work.
      let tenth = Int(progress.fraction * 10)
      guard loadedTenth.exchange(tenth, ordering: .relaxed) < tenth else { return }
      postProgress(GST_PROGRESS_TYPE_CONTINUE, "load", "Loading \(progress.component)") {
        $0.set("percent", progress.fraction * 100)
      }
    case .ready(let loaded):
      let info = loaded.model.info
      for (index, adapter) in loaded.model.adapters.enumerated() {
        postAdapter(adapter, child: loaded.children[index].half.name)
        if let notice = adapter.notice { postWarning(ElementError(.librarySettings, notice)) }
      }
      postProgress(GST_PROGRESS_TYPE_COMPLETE, "load", "Loaded \(info.name), \(info.family)") {
        $0.set("percent", 100.0)
      }
      modelIsReady(loaded)
    case .cancelled:
      postProgress(GST_PROGRESS_TYPE_CANCELED, "load", "Loading was cancelled") { $0.set("percent", 100.0) }
    case .failed(let error):
      fail(error)
      postProgress(GST_PROGRESS_TYPE_ERROR, "load", "\(error)") { $0.set("percent", 100.0) }
    }
  }

  /// One `videolora-adapter` element message: what a file is and how much of it fits the model.
  private func postAdapter(_ report: AdapterReport, child: String) {
    let structure = StructureBuilder("videolora-adapter")
      .set("child", child).set("path", report.path).set("role", report.role).set("dialect", report.dialect)
      .set("rank", report.rank).set("effective-scale", Double(report.effectiveScale))
      .set("matched-keys", report.matchedKeys).set("total-keys", report.totalKeys)
      .set("unmatched", report.unmatched)
    gst_element_post_message(element, gst_message_new_element(gstObject, structure.take()))
  }

  // MARK: Clips

  /// The monitor of a run: cancellable, and posting one PROGRESS message per step.
  var monitor: RunMonitor {
    // The element outlives its streaming thread, which is where a run happens.
    RunMonitor(cancellation: cancellation, progress: { [unowned self] in self.post($0) })
  }

  private func post(_ progress: GenerationProgress) {
    let percent = Int((progress.fraction * 100).rounded())
    let isNew = openClip.withLock { open in
      defer { open = progress.fraction < 1 ? progress.clip : nil }
      return open != progress.clip
    }
    var text = "clip \(progress.clip), step \(progress.step) of \(progress.steps), \(percent) %"
    if let eta = progress.etaSeconds { text += ", \(tenths(eta)) s left" }
    if isNew { postClip(GST_PROGRESS_TYPE_START, progress, "clip \(progress.clip) starts", percent) }
    postClip(
      progress.fraction < 1 ? GST_PROGRESS_TYPE_CONTINUE : GST_PROGRESS_TYPE_COMPLETE, progress, text, percent
    )
  }

  private func postClip(
    _ type: GstProgressType, _ progress: GenerationProgress, _ text: String, _ percent: Int
  ) {
    postProgress(type, "clip", text) {
      $0.set("percent", Double(percent)).set("clip", progress.clip).set("step", progress.step)
        .set("steps", progress.steps)
      if let eta = progress.etaSeconds { $0.set("eta", eta) }
    }
  }

  /// Closes the PROGRESS of a clip that did not come to its end.
  func closeClip(_ type: GstProgressType, _ text: String) {
    guard
      let clip = openClip.withLock({ open in
        defer { open = nil }
        return open
      })
    else { return }
    postProgress(type, "clip", text) { $0.set("percent", 100.0).set("clip", clip) }
  }

  // MARK: Posting

  private func postProgress(
    _ type: GstProgressType, _ code: String, _ text: String, _ fields: (StructureBuilder) -> Void = { _ in }
  ) {
    guard let message = gst_message_new_progress(gstObject, type, code, text) else { return }
    if let structure = gst_message_writable_structure(message) {
      fields(StructureBuilder(extending: structure))
    }
    gst_element_post_message(element, message)
  }

  /// One `videolora-stats` element message at the end of a stream: what the property `stats` shows then.
  func postStats() {
    gst_element_post_message(
      element, gst_message_new_element(gstObject, stats.withLock { $0 }.structure.take()))
  }

  func postLatency() {
    gst_element_post_message(element, gst_message_new_latency(gstObject))
  }

  /// Posts at most one ERROR until the element is started again.
  func fail(_ error: any Error) {
    guard !hasFailed.exchange(true, ordering: .acquiringAndReleasing) else { return }
    post(ElementError(describing: error))
  }
}

/// A number with one decimal.
func tenths(_ value: Double) -> String {
  guard value.isFinite, abs(value) < 1e12 else { return "?" }
  let rounded = Int((value * 10).rounded())
  return "\(rounded / 10).\(abs(rounded) % 10)"
}
