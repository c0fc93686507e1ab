import DiffusionLayers
import DiffusionModels
import TensorCore

/// The files of one component under the names that its model asks for. Opened, not read.
struct ComponentFiles: Sendable {
  let source: any WeightSource
  let files: [SafetensorsSource]

  /// - Parameter source: `files` under other names, where they need some, or a part of them.
  init(_ files: SafetensorsSource..., as source: (any WeightSource)? = nil) {
    self.source = source ?? files[0]
    self.files = files
  }

  /// Bytes that the tensors take in memory, with matrices in the formats that `format` gives them and filters packed.
  func residentBytes(_ format: (_ tensor: String, _ shape: [Int], _ stored: DType) -> DType = { $2 })
    -> UInt64
  {
    source.names.reduce(0) { sum, tensor in
      let (shape, stored) = (source.shape(of: tensor) ?? [], source.format(of: tensor))
      if shape.count >= 4, shape.count <= 5, shape[2...].reduce(1, *) > 1 {
        let stride = Self.halves(tensor) ? 2 : 1
        return sum + UInt64(ConvolutionKernel.bytes(shape, as: stored, stride: stride))
      }
      return sum + UInt64(Weight.bytes(shape, as: format(tensor, shape, stored)))
    }
  }

  /// Bytes that the tensors take in the formats of their files, matrices and filters at two bytes where they have two.
  var tensorBytes: UInt64 {
    source.names.reduce(0) {
      $0 + UInt64(Weight.bytes(source.shape(of: $1) ?? [], as: source.format(of: $1)))
    }
  }

  /// Whether filters of this name are those of a convolution that halves its pictures, in any project's naming.
  private static func halves(_ tensor: String) -> Bool {
    tensor.contains("downsample") || tensor.hasSuffix(".op.weight")
  }

  var parameters: Int { source.names.reduce(0) { $0 + (source.shape(of: $1) ?? []).reduce(1, *) } }
}

/// The components of a model, found and not loaded: what every layout of files on disk comes down to.
struct ModelParts {
  /// Path or builtin name as given.
  let name: String
  let architecture: BackboneArchitecture
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
    /// None: squares of `patch` by `patch` pixels are the channels of a latent.
    case pixels(patch: Int)
    case tiny(encoder: ComponentFiles, decoder: ComponentFiles, config: JSONObject, file: String)
    /// Without a configuration the file has Wan's original naming.
    case wan(ComponentFiles, config: JSONObject?, file: String)
    /// Without a configuration it follows from the tensors' shapes.
    case kl(ComponentFiles, config: JSONObject?, file: String)
  }

  /// What turns prompts into embeddings.
  enum TextParts {
    /// `reason`: what is missing and where; the model runs with precomputed embeddings.
    case none(reason: String)
    case tags(ComponentFiles, config: JSONObject, vocabulary: JSONObject, file: String)
    case t5(T5Prompts)
    case clip(ComponentFiles, CLIPTextConfig, CLIPTokenizer)
  }

  /// The tensors that adapters may change.
  var adaptable: [LoRAComponent: any WeightSource] {
    var parts: [LoRAComponent: any WeightSource] = [.denoiser: backbone.source]
    if case .clip(let files, _, _) = text { parts[.textEncoder] = files.source }
    return parts
  }

  /// Components that stay in memory, the backbone first.
  var resident: [ComponentFiles] {
    var result = [backbone]
    switch codec {
    case .pixels: break
    case .tiny(let encoder, let decoder, _, _): result += [encoder, decoder]
    case .wan(let files, _, _), .kl(let files, _, _): result.append(files)
    }
    switch text {
    case .tags(let files, _, _, _), .clip(let files, _, _): result.append(files)
    case .none, .t5: break
    }
    return result
  }

  /// Bytes that they take, with the backbone in a precision.
  func residentBytes(_ precision: Precision) -> UInt64 {
    let denoiser = backbone.residentBytes { precision.format(of: $0, $1, stored: $2, in: architecture) }
    return resident.dropFirst().reduce(denoiser) { $0 + $1.residentBytes() }
  }
}
