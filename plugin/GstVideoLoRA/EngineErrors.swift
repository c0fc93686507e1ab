/// Engine errors as bus messages: the engine's sentence, under the GStreamer domain and code that fits.

import DiffusionLayers
import DiffusionPipelines
import GStreamerKit
import TensorCore

extension ElementError {
  /// The engine's text names the file, tensor or property and the remedy; it becomes the message as it is.
  init(describing error: any Error) {
    switch error {
    case let error as ElementError: self = error
    case let error as WeightsError: self.init(Self.kind(error), error.description, detail: "WeightsError")
    case let error as LoRAError: self.init(Self.kind(error), error.description, detail: "LoRAError")
    case let error as PipelineError: self.init(Self.kind(error), error.description, detail: "PipelineError")
    default: self.init(.librarySettings, "\(error)", detail: String(describing: type(of: error)))
    }
  }

  private static func kind(_ error: WeightsError) -> Kind {
    switch error {
    case .notFound, .missingShard, .unknownBuiltin: .resourceNotFound
    case .unreadable, .notARegularFile, .shrank: .resourceRead
    case .overBudget: .resourceNoSpace
    case .foreign: .streamWrongType
    default: .streamFormat
    }
  }

  private static func kind(_ error: LoRAError) -> Kind {
    if case .file(let error) = error { return kind(error) }
    return .librarySettings
  }

  private static func kind(_ error: PipelineError) -> Kind {
    switch error {
    case .embeddingsFile(let error): kind(error)
    case .missingComponent: .resourceNotFound
    case .overBudget: .resourceNoSpace
    case .notFinite: .streamFailed
    default: .librarySettings
    }
  }
}

/// Runs `body`; an error it throws is told with the property that led to it.
func blaming<Result>(_ property: String, _ body: () throws -> Result) throws -> Result {
  do {
    return try body()
  } catch {
    if error is Cancelled { throw error }
    let described = ElementError(describing: error)
    throw ElementError(described.kind, "\(property): \(described.text)", detail: described.detail)
  }
}
