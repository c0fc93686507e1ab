import DiffusionLayers
import DiffusionModels
import TensorCore

/// Autoencoders over whole clips.
extension CaseReplayer {
  /// `vae_encode` (video to the posterior's moments) and `vae_decode` (latents to frames): clips as `[1, C, F, H, W]`, or
  /// as a batch of pictures `[F, C, H, W]` where the autoencoder takes each frame on its own.
  func autoencoder(_ name: String) throws -> [(String, Tensor)] {
    let model = try needed()
    switch (name, try model.autoencoder()) {
    case ("vae_encode", .wan(let autoencoder)):
      let posterior = try autoencoder.encode(model.frames(try input(name, "video")), .plain)
      return [("mean", model.clip(posterior.mean)), ("logvar", model.clip(posterior.logvar))]
    case ("vae_decode", .wan(let autoencoder)):
      let latents = model.frames(try input(name, "latents"))
      return [("frames", model.clip(try autoencoder.decode(latents, .plain)))]
    case ("vae_encode", .kl(let autoencoder)):
      let posterior = try autoencoder.encode(channelsLast(try input(name, "video")), .plain)
      return [("mean", channelsFirst(posterior.mean)), ("logvar", channelsFirst(posterior.logvar))]
    case ("vae_decode", .kl(let autoencoder)):
      return [
        ("frames", channelsFirst(try autoencoder.decode(channelsLast(try input(name, "latents")), .plain)))
      ]
    default: throw SkippedCase(why: "cases of this kind are not supported yet")
    }
  }

  /// `[N, C, H, W]` to `[N, H, W, C]`.
  func channelsLast(_ pictures: Tensor) -> Tensor { pictures.permuted([0, 2, 3, 1]).contiguous() }

  /// `[N, H, W, C]` to `[N, C, H, W]`.
  private func channelsFirst(_ pictures: Tensor) -> Tensor { pictures.permuted([0, 3, 1, 2]).contiguous() }
}
