/// Loads a model and its adapters on a thread of its own.

import CGStreamer
import DiffusionPipelines
import GStreamerKit
import Synchronization
import TensorCore

/// What an element wants to run.
struct LoadRequest: Sendable {
  var key: SharedModels.Key
  /// The children that name a file, in order, each with what the engine is asked.
  var adapters: [(child: ObjectRef<LoRAObject>, request: AdapterRequest)]
}

/// A model ready to run: the shared base, the base with its adapters, and the children in the adapters' order.
final class LoadedModel: Sendable {
  let base: SharedModel
  let model: VideoModel
  let children: [ObjectRef<LoRAObject>]

  init(base: SharedModel, model: VideoModel, children: [ObjectRef<LoRAObject>]) {
    self.base = base
    self.model = model
    self.children = children
  }

  private let warned = Mutex<Set<Int>>([])

  /// Warnings about strengths, one for each adapter, that lie outside what it was trained for; each adapter is warned
  /// about once.
  func strengthWarnings(_ strengths: [[Float]]) -> [ElementError] {
    zip(model.adapters, strengths).enumerated().compactMap { index, pair in
      guard let text = pair.1.lazy.compactMap({ pair.0.warning(strength: $0) }).first,
        warned.withLock({ $0.insert(index).inserted })
      else { return nil }
      return ElementError(.librarySettings, "lora_\(index)::strength: \(text)")
    }
  }
}

/// What the worker tells its element, on the worker's thread.
enum LoadEvent {
  case started(String)
  case progress(LoadProgress)
  case ready(LoadedModel)
  case cancelled
  case failed(any Error)
}

/// The worker between READY and PAUSED: serves the first load and every later change of adapters.
final class ModelLoader: @unchecked Sendable {
  enum Outcome {
    case ready(LoadedModel)
    case loading, failed, interrupted
  }

  private struct State {
    var request: LoadRequest?
    var wanted = 0
    var done = 0
    var loaded: LoadedModel?
    var hasFailed = false
    var isInterrupted = false
    var isStopping = false
  }

  private let state = Monitor(State())
  private let cancellation = Cancellation()
  private let report: @Sendable (LoadEvent) -> Void
  // Touched by state changes only, which GStreamer serialises.
  private var thread: UnsafeMutablePointer<GThread>?

  init(report: @escaping @Sendable (LoadEvent) -> Void) {
    self.report = report
  }

  // MARK: From state changes

  /// Starts the worker on its first request.
  func start(_ request: LoadRequest) {
    cancellation.reset()
    state.update { $0 = State(request: request, wanted: 1) }
    thread = g_thread_new(
      "videolora-load",
      { data in
        guard let data else { return nil }
        Unmanaged<ModelLoader>.fromOpaque(data).takeRetainedValue().work()
        return nil
      }, Unmanaged.passRetained(self).toOpaque())
  }

  /// Asks the worker to end and wakes whoever waits for the model; returns at once.
  func cancel() {
    cancellation.cancel()
    state.update {
      $0.isStopping = true
      $0.isInterrupted = true
    }
    SharedModels.wake()
  }

  /// Waits for the worker's end and lets go of the model.
  func finish() {
    cancel()
    if let thread { g_thread_join(thread) }
    thread = nil
    state.update { $0.loaded = nil }
  }

  // MARK: From the application

  /// Asks for other adapters on the same base.
  func change(_ request: LoadRequest) {
    state.update {
      $0.request = request
      $0.wanted += 1
    }
  }

  // MARK: From the streaming thread

  /// The model for the latest request; waits for it unless interrupted.
  func waitUntilReady() -> Outcome {
    state.wait { state in
      let outcome = Self.outcome(state)
      if case .loading = outcome { return nil }
      return state.wanted == state.done || state.isInterrupted || state.hasFailed ? outcome : nil
    }
  }

  /// The newest model that is ready, without waiting.
  func current() -> Outcome {
    state.read(Self.outcome)
  }

  /// Sends waiting threads back to their caller (flush start), or lets them wait again (flush stop).
  func setInterrupted(_ isInterrupted: Bool) {
    state.update { $0.isInterrupted = isInterrupted || $0.isStopping }
  }

  private static func outcome(_ state: State) -> Outcome {
    if state.isInterrupted { return .interrupted }
    if state.hasFailed { return .failed }
    return state.loaded.map(Outcome.ready) ?? .loading
  }

  // MARK: The worker

  private func work() {
    while let (request, number, isFirst) = next() {
      do {
        report(
          .started(isFirst ? "Loading \(request.key.path)" : "Loading \(request.adapters.count) adapters"))
        let loaded = try load(request)
        try cancellation.check()
        // Reported first: a waiting streaming thread must find the messages already posted.
        report(.ready(loaded))
        state.update {
          $0.loaded = loaded
          $0.done = number
        }
      } catch {
        report(error is Cancelled ? .cancelled : .failed(error))
        state.update {
          $0.hasFailed = true
          $0.done = number
        }
      }
    }
  }

  private func next() -> (LoadRequest, number: Int, isFirst: Bool)? {
    state.wait { state -> (LoadRequest, number: Int, isFirst: Bool)?? in
      if state.isStopping { return .some(nil) }
      guard state.wanted > state.done, let request = state.request else { return nil }
      return .some((request, number: state.wanted, isFirst: state.loaded == nil))
    }
  }

  private func load(_ request: LoadRequest) throws -> LoadedModel {
    let base: SharedModel
    if let loaded = state.read({ $0.loaded }) {
      base = loaded.base
    } else {
      base = try blaming("model") {
        try SharedModels.obtain(request.key, cancellation: cancellation) {
          try VideoModel.load(
            request.key.path,
            options: LoadOptions(
              precision: request.key.precision, memoryBudget: request.key.memoryBudget,
              motionModule: request.key.motionModule),
            cancellation: cancellation, progress: { self.report(.progress($0)) })
        }
      }
    }
    let requests = request.adapters.map(\.request)
    let model =
      requests.isEmpty ? base.model : try blaming("loras") { try base.model.adapted(with: requests) }
    return LoadedModel(base: base, model: model, children: request.adapters.map(\.child))
  }
}
