import DiffusionModels

/// What a kind of model runs with where its index says nothing.
struct ModelDefaults {
  var steps = 50
  var guidanceScale = 5.0
  var clipLength = 81
  var overlap: Int
  var width = 832
  var height = 480
  var sharesNoise = false

  init(_ parts: ModelParts, _ codec: LatentCodec) {
    overlap = codec.temporalRatio + 1
    if case .unet = parts.architecture {
      // AnimateDiff: 25 steps at 7.5, 16 frames of 512x512; a quarter of a window is shared.
      (steps, guidanceScale, clipLength, overlap) = (25, 7.5, 16, 4)
      (width, height) = (512, 512)
      return
    }
    guard case .tags = parts.text else {
      if codec.channels == 3 { (width, height) = (24, 24) }
      return
    }
    (steps, guidanceScale, clipLength, sharesNoise) = (20, 3, 8, true)
    (width, height) = codec.channels == 3 ? (24, 24) : (96, 96)
  }
}
