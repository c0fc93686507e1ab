import DiffusionLayers
import DiffusionModels
import TensorCore

/// The files of one component under the names that its model asks for. Opened, not read.
struct ComponentFiles: Sendable {
  let source: any WeightSource
  let files: [SafetensorsSource]

  /// - Parameter source: `files` under other names, where they need some.
  init(_ file: SafetensorsSource, as source: (any WeightSource)? = nil) {
    self.source = source ?? file
    files = [file]
  }

  /// - Parameter source: all of `files` under the names that the model asks for.
  init(_ files: [SafetensorsSource], as source: any WeightSource) {
    self.source = source
    self.files = files
  }

  /// Bytes that the tensors take in memory.
  var residentBytes: UInt64 { files.reduce(0) { $0 + $1.residentBytes } }

  /// The same with matrices in the formats of a precision.
  func residentBytes(_ precision: Precision) -> UInt64 {
    source.names.reduce(0) { sum, tensor in
      let (shape, stored) = (source.shape(of: tensor) ?? [], source.format(of: tensor))
      return sum + UInt64(Weight.bytes(shape, as: precision.format(of: tensor, shape, stored: stored)))
    }
  }

  var parameters: Int { files.reduce(0) { $0 + $1.parameters } }
}

/// The components of a model, found and not loaded: what every layout of files on disk comes down to.
struct ModelParts {
  /// Path or builtin name as given.
  let name: String
  let config: WanConfig
  /// File that the configuration comes from, for messages.
  let configFile: String
  let backbone: ComponentFiles
  let codec: CodecParts
  let text: TextParts
  let scheduler: ModelScheduler
  let hasCoordinatePlanes: Bool
  /// The `videolora` entry of the index: the model's own defaults.
  let hints: ConfigReader

  /// The autoencoder.
  enum CodecParts {
    case pixels
    case tiny(encoder: ComponentFiles, decoder: ComponentFiles, config: JSONObject, file: String)
    /// Without a configuration the file has Wan's original naming.
    case wan(ComponentFiles, config: JSONObject?, file: String)
  }

  /// What turns prompts into embeddings.
  enum TextParts {
    /// `reason`: what is missing and where; the model runs with precomputed embeddings.
    case none(reason: String)
    case tags(ComponentFiles, config: JSONObject, vocabulary: JSONObject, file: String)
    case t5(T5Prompts)
  }

  /// Components that stay in memory, the backbone first.
  var resident: [ComponentFiles] {
    var result = [backbone]
    switch codec {
    case .pixels: break
    case .tiny(let encoder, let decoder, _, _): result += [encoder, decoder]
    case .wan(let files, _, _): result.append(files)
    }
    if case .tags(let files, _, _, _) = text { result.append(files) }
    return result
  }

  /// Bytes that they take, with the backbone in a precision.
  func residentBytes(_ precision: Precision) -> UInt64 {
    resident.dropFirst().reduce(backbone.residentBytes(precision)) { $0 + $1.residentBytes }
  }
}
