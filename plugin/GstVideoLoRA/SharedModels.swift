/// Base models shared by the elements of one process.

import DiffusionPipelines
import GStreamerKit
import TensorCore

/// A loaded base model. Elements that hold it share its weights; the last one to let go frees them.
final class SharedModel: Sendable {
  let model: VideoModel

  init(_ model: VideoModel) {
    self.model = model
  }
}

/// The process-wide cache: weak, so it keeps no model alive, and each model is loaded by one element only while others wait.
enum SharedModels {
  struct Key: Hashable, Sendable {
    var path: String
    var precision: Precision
    var memoryBudget: UInt64
    var motionModule = ""
  }

  private struct Entry {
    weak var model: SharedModel?
    var isLoading = false
  }

  private static let entries = Monitor<[Key: Entry]>([:])

  /// The model for `key`: the one another element holds, or what `load` makes.
  static func obtain(
    _ key: Key, cancellation: Cancellation, load: () throws -> VideoModel
  ) throws -> SharedModel {
    let found: SharedModel? = try entries.wait { entries -> Result<SharedModel?, Cancelled>? in
      if cancellation.isCancelled { return .failure(Cancelled()) }
      if let model = entries[key]?.model { return .success(model) }
      if entries[key]?.isLoading == true { return nil }
      entries[key] = Entry(isLoading: true)
      return .success(nil)
    }.get()
    if let found { return found }

    do {
      let model = SharedModel(try load())
      entries.update { $0[key] = Entry(model: model) }
      return model
    } catch {
      entries.update { $0[key] = nil }
      throw error
    }
  }

  /// Wakes elements that wait for another's load, so that they see their cancellation.
  static func wake() {
    entries.update { entries in
      entries = entries.filter { $0.value.isLoading || $0.value.model != nil }
    }
  }
}
