import DiffusionLayers
import DiffusionModels
import TensorCore

/// The components of a model that cases run one by one. A component that is missing or cannot be loaded leaves
/// out the cases that need it.
struct ReplayModel {
  let backbone: any VideoBackbone
  /// The backbone's weights.
  let source: ResidentSource
  /// The scheduler of the model; cases say what they change.
  let scheduler: ModelScheduler
  private let codec: Result<LatentCodec, any Error>
  private let text: Result<ModelParts.TextParts, any Error>

  /// - Throws: what loading the backbone throws.
  init(_ path: String, _ precision: Precision) throws {
    let loader = ModelLoader(path, options: LoadOptions(precision: precision == .auto ? .f32 : precision))
    (backbone, source) = try loader.loadBackbone()
    scheduler = try loader.scheduler()
    codec = Result { try loader.loadCodec() }
    text = Result { try loader.textParts() }
  }

  func autoencoder() throws -> AutoencoderKLWan {
    do {
      if case .wan(let autoencoder) = try codec.get() { return autoencoder }
    } catch { throw SkippedCase(why: "\(error)") }
    throw SkippedCase(why: "the model has no AutoencoderKLWan")
  }

  /// Whether there is an autoencoder for whole clips.
  var hasAutoencoder: Bool { (try? autoencoder()) != nil }

  /// Pictures `[F, H, W, 3]` with values 0…255 to normalised latents `[1, C, f, h, w]`, the mode of their
  /// distribution.
  func encode(_ pictures: Tensor) throws -> Tensor {
    let autoencoder = try autoencoder()
    let one = Tensor(repeating: 1, shape: [1])
    let mean = try autoencoder.encode(pictures * (2 / 255) - one, .plain).mean
    return clip(autoencoder.normalized(mean))
  }

  /// Normalised latents to pictures `[F, H, W, 3]` in [0, 1].
  func decode(_ latents: Tensor) throws -> Tensor {
    let autoencoder = try autoencoder()
    let half = Tensor(repeating: 0.5, shape: [1])
    return try autoencoder.decode(autoencoder.denormalized(frames(latents)), .plain) * 0.5 + half
  }

  func prompts() throws -> T5Prompts {
    do {
      if case .t5(let prompts) = try text.get() { return prompts }
    } catch { throw SkippedCase(why: "\(error)") }
    throw SkippedCase(why: "the model has no T5 or UMT5 text encoder")
  }

  /// `[1, C, F, H, W]` to `[F, H, W, C]`.
  func frames(_ clip: Tensor) -> Tensor { clip.select(0, 0).permuted([1, 2, 3, 0]).contiguous() }

  /// `[F, H, W, C]` to `[1, C, F, H, W]`.
  func clip(_ frames: Tensor) -> Tensor {
    frames.permuted([3, 0, 1, 2]).reshaped([1, frames.shape[3]] + frames.shape.dropLast())
  }
}
