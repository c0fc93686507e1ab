package import DiffusionPipelines
import Glibc
package import TensorCore

/// A clip made noisy, and what the model should make of it.
package struct NoisyLatents: Sendable {
  package let input: Tensor
  package let target: Tensor
  package let timestep: Float
}

/// The training objective of a model (methods 0.2): from clean latents, noise and a time in [0, 1] to input and target.
package struct NoisingTarget: Sendable {
  package let noise: TrainingNoise
  /// Of times towards high noise: `t → s t / (1 + (s - 1) t)`.
  package let shift: Double

  /// - Parameter shift: 0 takes the model's own.
  package init(_ noise: TrainingNoise, shift: Double = 0) {
    self.noise = noise
    if case .flow(let own, _) = noise, shift == 0 {
      self.shift = own
    } else {
      self.shift = shift == 0 ? 1 : shift
    }
  }

  /// How much of the clip and of the noise there is at a time, before the shift.
  package func share(at time: Double) -> (signal: Float, noise: Float) {
    let time = shift * time / (1 + (shift - 1) * time)
    switch noise {
    case .flow: return (Float(1 - time), Float(time))
    case .schedule(let levels, _):
      let level = levels[min(levels.count - 1, Int(time * Double(levels.count)))]
      return (Float(sqrt(level)), Float(sqrt(1 - level)))
    }
  }

  /// - Parameter time: from no noise at 0 to nothing but noise at 1, before the shift.
  package func callAsFunction(_ clean: Tensor, noise draw: Tensor, time: Double) -> NoisyLatents {
    let time = shift * time / (1 + (shift - 1) * time)
    switch noise {
    case .flow(_, let timesteps):
      let sigma = Float(time)
      return NoisyLatents(
        input: (clean * (1 - sigma)).adding(draw, scaledBy: sigma), target: draw - clean,
        timestep: sigma * Float(timesteps))
    case .schedule(let levels, let prediction):
      let index = min(levels.count - 1, Int(time * Double(levels.count)))
      let (alpha, sigma) = (Float(sqrt(levels[index])), Float(sqrt(1 - levels[index])))
      let target =
        switch prediction {
        case .epsilon: draw
        case .sample: clean
        case .vPrediction: (draw * alpha).adding(clean, scaledBy: -sigma)
        case .flowPrediction: draw - clean
        }
      return NoisyLatents(
        input: (clean * alpha).adding(draw, scaledBy: sigma), target: target, timestep: Float(index))
    }
  }
}
