import DiffusionLayers
import DiffusionModels
import TensorCore

/// Autoencoders over whole clips.
extension CaseReplayer {
  /// The autoencoder of a model directory, nil where it has none of this kind.
  static func loadAutoencoder(_ directory: ModelDirectory) throws -> AutoencoderKLWan? {
    let file = "vae/config.json"
    guard directory.exists(file) else { return nil }
    let config = try directory.json(file)
    guard config["_class_name"]?.string == "AutoencoderKLWan" else { return nil }
    return try AutoencoderKLWan(
      Weights(try SafetensorsSource(directory, component: "vae")), config: .object(config),
      file: directory.location(of: file))
  }

  /// `vae_encode` (video to the posterior's moments) and `vae_decode` (latents to frames), clips as
  /// `[1, C, F, H, W]`.
  func autoencoder(_ name: String) throws -> [(String, Tensor)] {
    guard let autoencoder else { throw SkippedCase(why: "it needs a model with an AutoencoderKLWan") }
    func frames(_ clip: Tensor) -> Tensor { clip.select(0, 0).permuted([1, 2, 3, 0]).contiguous() }
    func clip(_ frames: Tensor) -> Tensor {
      frames.permuted([3, 0, 1, 2]).reshaped([1, frames.shape[3]] + frames.shape.dropLast())
    }
    switch name {
    case "vae_encode":
      let posterior = try autoencoder.encode(frames(try input(name, "video")), .plain)
      return [("mean", clip(posterior.mean)), ("logvar", clip(posterior.logvar))]
    case "vae_decode":
      return [("frames", clip(try autoencoder.decode(frames(try input(name, "latents")), .plain)))]
    default: throw SkippedCase(why: "cases of this kind are not supported yet")
    }
  }
}
