import Glibc

/// The learning rate over a training: a warm-up, then the recipe's decay.
package struct LearningRate: Sendable {
  let peak: Double
  let warmup: Int
  let steps: Int
  let decay: TrainingRecipe.Decay

  package init(_ recipe: TrainingRecipe) {
    peak = recipe.learningRate
    warmup = recipe.warmup
    steps = recipe.steps
    decay = recipe.decay
  }

  /// The rate of step `index`, counted from 0.
  package func callAsFunction(_ index: Int) -> Double {
    let rise = warmup > 0 ? min(1, Double(index + 1) / Double(warmup)) : 1
    let share = Double(index) / Double(steps)
    let fall =
      switch decay {
      case .constant: 1.0
      case .cosine:
        index < warmup
          ? 1.0 : 0.5 * (1 + cos(.pi * Double(index - warmup) / Double(max(1, steps - warmup))))
      case .tail: min(1, max(0.05, (1 - share) / 0.3))
      }
    return peak * rise * fall
  }
}
