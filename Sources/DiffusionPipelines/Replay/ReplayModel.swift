import DiffusionLayers
import DiffusionModels
import TensorCore

/// The components of a model that cases run one by one. A component that is missing or cannot be loaded leaves
/// out the cases that need it.
struct ReplayModel {
  let backbone: (architecture: BackboneArchitecture, source: ResidentSource)
  /// The scheduler of the model; cases say what they change.
  let scheduler: ModelScheduler
  private let codec: Result<LatentCodec, any Error>
  private let text: Result<ModelParts.TextParts, any Error>
  /// CLIP's encoder, read into memory; nil for another kind of encoder.
  private let clipPrompts: Result<CLIPPrompts?, any Error>

  /// - Throws: what loading the backbone throws.
  init(_ path: String, _ precision: Precision) throws {
    let loader = ModelLoader(path, options: LoadOptions(precision: precision == .auto ? .f32 : precision))
    let (architecture, source) = try loader.loadBackbone()
    backbone = (architecture, source)
    scheduler = try loader.scheduler()
    codec = Result { try loader.loadCodec() }
    let text = Result { try loader.textParts() }
    self.text = text
    clipPrompts = Result { try loader.clip(try text.get()) }
  }

  /// The autoencoder, where the model has one that cases know.
  func autoencoder() throws -> LatentCodec {
    do {
      switch try codec.get() {
      case .wan(let autoencoder): return .wan(autoencoder)
      case .kl(let autoencoder): return .kl(autoencoder)
      case .pixels, .tiny: break
      }
    } catch { throw SkippedCase(why: "\(error)") }
    throw SkippedCase(why: "the model has no AutoencoderKL and no AutoencoderKLWan")
  }

  /// Whether there is an autoencoder for whole clips.
  var hasAutoencoder: Bool { (try? autoencoder()) != nil }

  /// Whether the starting latents are a draw from the autoencoder's distribution.
  var drawsLatents: Bool { (try? autoencoder())?.drawsLatents ?? false }

  /// Pictures `[F, H, W, 3]` with values 0…255 to normalised latents `[1, C, f, h, w]`.
  /// - Parameter draws: normal draws `[F, h, w, C]` of an autoencoder whose latents are drawn, else nil for the mode.
  func encode(_ pictures: Tensor, draws: Tensor?) throws -> Tensor {
    let scaled = pictures * (2 / 255) - Tensor(repeating: 1, shape: [1])
    switch try autoencoder() {
    case .kl(let autoencoder):
      let posterior = try autoencoder.encode(scaled, .plain)
      return clip(autoencoder.normalized(draws.map { posterior.sample(noise: $0) } ?? posterior.mean))
    case .wan(let autoencoder):
      return clip(autoencoder.normalized(try autoencoder.encode(scaled, .plain).mean))
    case .pixels, .tiny: throw SkippedCase(why: "its autoencoder takes single pictures")
    }
  }

  /// Normalised latents to pictures `[F, H, W, 3]` in [0, 1].
  func decode(_ latents: Tensor) throws -> Tensor {
    let half = Tensor(repeating: 0.5, shape: [1])
    switch try autoencoder() {
    case .kl(let autoencoder):
      let pictures = try autoencoder.decode(autoencoder.denormalized(frames(latents)), .plain)
      return (pictures * 0.5 + half).clamped(0, 1)
    case .wan(let autoencoder):
      return try autoencoder.decode(autoencoder.denormalized(frames(latents)), .plain) * 0.5 + half
    case .pixels, .tiny: throw SkippedCase(why: "its autoencoder takes single pictures")
    }
  }

  /// CLIP's tokenizer and encoder; nil for a model with another kind of encoder.
  func clip() throws -> CLIPPrompts? {
    do { return try clipPrompts.get() } catch { throw SkippedCase(why: "\(error)") }
  }

  func prompts() throws -> T5Prompts {
    do {
      if case .t5(let prompts) = try text.get() { return prompts }
    } catch { throw SkippedCase(why: "\(error)") }
    throw SkippedCase(why: "the model has no T5, UMT5 or CLIP text encoder")
  }

  /// `[1, C, F, H, W]` to `[F, H, W, C]`.
  func frames(_ clip: Tensor) -> Tensor { clip.select(0, 0).permuted([1, 2, 3, 0]).contiguous() }

  /// `[F, H, W, C]` to `[1, C, F, H, W]`.
  func clip(_ frames: Tensor) -> Tensor {
    frames.permuted([3, 0, 1, 2]).reshaped([1, frames.shape[3]] + frames.shape.dropLast())
  }
}
