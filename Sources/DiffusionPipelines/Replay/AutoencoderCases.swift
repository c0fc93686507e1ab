import DiffusionLayers
import DiffusionModels
import TensorCore

/// Autoencoders over whole clips.
extension CaseReplayer {
  /// `vae_encode` (video to the posterior's moments) and `vae_decode` (latents to frames), clips as
  /// `[1, C, F, H, W]`.
  func autoencoder(_ name: String) throws -> [(String, Tensor)] {
    let model = try needed()
    let autoencoder = try model.autoencoder()
    switch name {
    case "vae_encode":
      let posterior = try autoencoder.encode(model.frames(try input(name, "video")), .plain)
      return [("mean", model.clip(posterior.mean)), ("logvar", model.clip(posterior.logvar))]
    case "vae_decode":
      let latents = model.frames(try input(name, "latents"))
      return [("frames", model.clip(try autoencoder.decode(latents, .plain)))]
    default: throw SkippedCase(why: "cases of this kind are not supported yet")
    }
  }
}
