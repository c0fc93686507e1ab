package import DiffusionPipelines
package import TensorCore

/// What one sample is trained towards: a clip, or the clip behind a source.
package struct SampleObjective: Sendable {
  private let plain: NoisingTarget
  private let fromSource: NoisingTarget
  private let source: SourceRecipe
  private let sharesNoise: Bool
  /// Latent frames of a token.
  private let patch: Int

  /// - Parameters:
  ///   - sharesNoise: whether video to video starts the model from noise that frames share.
  ///   - patch: latent frames of a token.
  package init(_ noise: TrainingNoise, _ recipe: TrainingRecipe, sharesNoise: Bool, patch: Int = 1) {
    plain = NoisingTarget(noise, shift: recipe.shift)
    // A run starts where the model's own shift puts it.
    fromSource = NoisingTarget(noise)
    source = recipe.source
    self.sharesNoise = sharesNoise
    self.patch = patch
  }

  /// A noised sample, with the strengths of its frames where they differ.
  package struct Drawn: Sendable {
    package let noisy: NoisyLatents
    /// Of the adapter, by frame of tokens; empty where it acts whole.
    package var strengths: [Float] = []
    /// Of its error in the loss.
    package var weight: Float = 1
  }

  /// Draws noise, and for pairs what else there is to draw.
  /// - Parameters:
  ///   - time: from 0 to 1; of the noise, or of the way that is left from the source's start.
  ///   - isHeldOut: always from the source where the recipe knows one, the adapter acting whole.
  package func callAsFunction(
    _ clip: CachedClip, time: Double, isHeldOut: Bool = false, _ random: inout TorchRandom
  ) -> Drawn {
    let noise = random.randn(clip.latents.shape)
    guard let before = clip.source, source.isUsed else {
      return Drawn(noisy: plain(clip.latents, noise: noise, time: time))
    }
    var after = clip.latents
    var strengths: [Float] = []
    if !isHeldOut, random.uniform() < source.animated {
      let frames = after.shape[2]
      strengths = Self.curve(frames / patch, &random)
      let curve = Tensor((0..<frames).map { strengths[$0 / patch] }, shape: [1, 1, frames, 1, 1])
      after = before + (after - before) * curve
    }
    guard isHeldOut ? source.share > 0 : random.uniform() < source.share else {
      return Drawn(noisy: plain(after, noise: noise, time: time), strengths: strengths)
    }
    let level = source.levels[0] + (source.levels[1] - source.levels[0]) * random.uniform()
    let common = sharesNoise ? StreamNoise.sharedVariance(Float(level)) : 0
    var start = noise
    if common > 0 {
      var picture = noise.shape
      picture[2] = 1
      start = noise * (1 - common).squareRoot() + random.randn(picture) * common.squareRoot()
    }
    let (noisy, weight) = sample(after, from: before, noise: start, level: level, ahead: 0.2 + 0.8 * time)
    return Drawn(noisy: noisy, strengths: strengths, weight: weight)
  }

  /// A point on the straight way that a sampler takes from the noised source to the clip behind it.
  ///
  /// For a flow and the level s: x(s) = (1 - s) source + s noise, the point is `ahead` x(s) + (1 - `ahead`) clip at
  /// the level `ahead` s, and the target (x(s) - clip) / s. That is the usual objective of the clip with the noise
  /// that makes x(s) of it, and so it holds for every schedule.
  /// - Returns: the sample, and its weight (2 s)²: an error of the velocity moves the result by s times that.
  package func sample(_ clip: Tensor, from source: Tensor, noise: Tensor, level: Double, ahead: Double) -> (
    NoisyLatents, weight: Float
  ) {
    let share = fromSource.share(at: level)
    let apparent = noise.adding(source - clip, scaledBy: share.signal / share.noise)
    return (fromSource(clip, noise: apparent, time: level * ahead), 4 * share.noise * share.noise)
  }

  /// Strengths of frames: a step between 0 and 1 at any frame, or (three in ten) a ramp, up or down.
  package static func curve(_ frames: Int, _ random: inout TorchRandom) -> [Float] {
    guard frames > 1 else { return [Float(random.below(2))] }
    let at = 1 + random.below(frames - 1)
    let isStep = random.uniform() < 0.7
    let falls = random.uniform() < 0.5
    return (0..<frames).map { frame in
      let value: Float = isStep ? (frame >= at ? 1 : 0) : max(0, min(1, Float(frame - at + 2) / 4))
      return falls ? 1 - value : value
    }
  }
}
