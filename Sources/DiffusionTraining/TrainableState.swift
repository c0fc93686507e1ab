package import DiffusionLayers
package import TensorCore

/// Everything that a step changes.
package struct TrainableState: Sendable {
  /// The pairs, in the order of their layers' names.
  package private(set) var factors: [AdapterFactors]
  package private(set) var extra: [ExtraParameter]
  package var optimizer: AdamW
  /// Moving averages of the values; empty without.
  package var average: [Tensor]
  /// The loss of every step so far.
  package var losses: [Float] = []

  /// Steps done.
  package var step: Int { losses.count }

  package init(factors: [AdapterFactors], extra: [ExtraParameter], recipe: TrainingRecipe) {
    self.factors = factors
    self.extra = extra
    optimizer = AdamW(for: [])
    average = []
    optimizer = AdamW(for: values)
    optimizer.betas = (recipe.betas[0], recipe.betas[1])
    optimizer.epsilon = recipe.epsilon
    optimizer.weightDecay = recipe.weightDecay
    if recipe.ema > 0 { average = values }
  }

  /// A and B of every pair, then the method's tensors.
  package var values: [Tensor] {
    get { factors.flatMap { [$0.down, $0.up] } + extra.map(\.value) }
    set {
      for index in factors.indices {
        factors[index].down = newValue[2 * index]
        factors[index].up = newValue[2 * index + 1]
      }
      for index in extra.indices { extra[index].value = newValue[2 * factors.count + index] }
    }
  }

  /// A name for each of `values`.
  package var names: [String] {
    factors.flatMap { ["\($0.module).lora_A", "\($0.module).lora_B"] } + extra.map(\.name)
  }

  /// What a file gets: the moving averages where there are some.
  package var result: TrainableState {
    var copy = self
    if !average.isEmpty { copy.values = average }
    return copy
  }

  /// Moves all values against their gradients.
  package mutating func update(
    _ gradients: [Tensor], loss: Float, rate: Double, clip scale: Float, ema: Double
  ) {
    let rates = factors.flatMap { _ in [rate, rate] } + extra.map { rate * $0.rateFactor }
    var moving = takeValues()
    optimizer.step(&moving, gradients: gradients, rates: rates, scale: scale)
    if !average.isEmpty {
      for index in moving.indices {
        let change = moving[index] - average[index]
        average[index].add(change, scaledBy: Float(1 - ema))
      }
    }
    values = moving
    losses.append(loss)
  }

  /// The values, held by nobody else, so that they may be changed in place.
  private mutating func takeValues() -> [Tensor] {
    let taken = values
    let nothing = Tensor.zeros([0])
    values = taken.map { _ in nothing }
    return taken
  }
}
