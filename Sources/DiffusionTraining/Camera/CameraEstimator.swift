package import DiffusionPipelines
package import TensorCore

/// Measures camera motion and the sprite's path from pixels alone, in closed form: no training, no labels.
///
/// The background's texture of every frame is fitted to that of frame 0 by a similarity, coarse to fine, starting from
/// the motion of the frame before, from its extrapolation and from rest; the best fit counts. Pixels of the sprite
/// take no part.
///
/// Reference: the judge kit's `camera.py`.
package enum CameraEstimator {
  /// Measures a clip of pictures of one size.
  package static func track(_ frames: [Frame]) -> CameraTrack {
    track(
      frames.map { frame in frame.pixels.map { Float($0) / 127.5 - 1 } }, width: frames.first?.width ?? 0,
      height: frames.first?.height ?? 0)
  }

  /// Measures a clip `[3, F, H, W]` in [-1, 1].
  package static func track(_ clip: Tensor) -> CameraTrack {
    precondition(clip.rank == 4 && clip.shape[0] == 3, "camera estimate of \(clip.shape)")
    let size = clip.shape[2] * clip.shape[3] * 3
    let values = clip.permuted([1, 2, 3, 0]).array()
    return track(
      (0..<clip.shape[1]).map { Array(values[($0 * size)..<(($0 + 1) * size)]) }, width: clip.shape[3],
      height: clip.shape[2])
  }

  /// - Parameter frames: RGB in [-1, 1], interleaved.
  private static func track(_ frames: [[Float]], width: Int, height: Int) -> CameraTrack {
    precondition(!frames.isEmpty && width >= 5 && height >= 5, "camera estimate of \(width)x\(height)")
    let model = ForegroundModel(frames, width: width, height: height)
    let scores = frames.indices.map { model.score($0, width: width, height: height) }
    // The antialiased rim of a sprite and a pixel around it are not background either.
    let background = scores.map { score in
      score.grown(above: 0.05, radius: height < 48 ? 1 : 2).map { $0 ? Float(0) : 1 }
    }
    let contrast = max(1e-3, model.textureDeviation)
    let texture = model.texture.map {
      Plane(width: width, height: height, values: $0.map { $0 / contrast })
    }

    var motions = [CameraMotion()]
    var correlations: [Float] = [1]
    for frame in 1..<max(1, frames.count) {
      let previous = motions[frame - 1]
      let extrapolated = CameraMotion(
        previous.vector * (frame > 1 ? Float(frame) / Float(frame - 1) : 0))
      let starts = frame == 1 ? [CameraMotion()] : [extrapolated, previous, CameraMotion()]
      let coarse = SimilarityFit(
        texture[0], background[0], texture[frame], background[frame], sigma: Float(height) / 24)
      let fine = SimilarityFit(texture[0], background[0], texture[frame], background[frame], sigma: 0)
      var best: (motion: CameraMotion, correlation: Float)?
      for start in starts {
        let found = fine.run(coarse.run(start, steps: 4).motion, steps: 3)
        guard let known = best else {
          best = found
          continue
        }
        best = (
          found.correlation > known.correlation + 0.02 ? found.motion : known.motion,
          max(found.correlation, known.correlation)
        )
      }
      let result = fine.run(best?.motion ?? CameraMotion(), steps: 6)
      motions.append(result.motion)
      correlations.append(result.correlation)
    }
    let sprites = frames.indices.map { sprite(scores[$0], model.distance[$0], model.threshold) }
    return CameraTrack(
      width: width, height: height, motions: motions, correlations: correlations,
      sprite: sprites.map(\.centre), spriteArea: sprites.map(\.area))
  }

  /// The sprite's centroid. The distance from the background's colours grows linearly with a pixel's coverage, so the
  /// centroid is exact below one pixel.
  private static func sprite(
    _ score: Plane, _ distance: [Float], _ threshold: Float
  ) -> (centre: SIMD2<Float>?, area: Float) {
    let isNear = score.grown(above: 0.3, radius: 1)
    let unit = Float(score.height) / 24
    var (total, x, y) = (0.0, 0.0, 0.0)
    for index in isNear.indices where isNear[index] {
      let mass = Double(max(0, distance[index] - threshold / 2))
      total += mass
      x += mass * Double(Float(index % score.width) + 0.5 - Float(score.width) / 2)
      y += mass * Double(Float(index / score.width) + 0.5 - Float(score.height) / 2)
    }
    let area = score.values.reduce(0, +)
    guard area > 3 * unit * unit else { return (nil, area) }
    return (SIMD2(Float(x / max(1e-6, total)), Float(y / max(1e-6, total))), area)
  }
}
