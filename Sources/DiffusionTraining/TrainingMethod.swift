package import DiffusionLayers
package import DiffusionPipelines
package import TensorCore

/// A tensor that a method trains beside the pairs.
package struct ExtraParameter: Sendable {
  /// Its name in files.
  package var name: String
  package var value: Tensor
  /// Of the recipe's learning rate.
  package var rateFactor: Double

  package init(name: String, value: Tensor, rateFactor: Double = 1) {
    self.name = name
    self.value = value
    self.rateFactor = rateFactor
  }
}

/// Which entries of a pair are trained: factors 0 and 1 that broadcast to A and B; nil for all.
package struct FactorMask: Sendable {
  package var down: Tensor?
  package var up: Tensor?

  package init(down: Tensor? = nil, up: Tensor? = nil) { (self.down, self.up) = (down, up) }
}

/// What sets one way of training apart from another: tensors of its own, what a sample's run carries, terms of the loss.
package protocol TrainingMethod: Sendable {
  /// Which entries of which pairs are trained, by module; pairs without a mask are left out. Nil trains all of them.
  /// - Parameter samples: some clips' latents with the embeddings of their captions.
  func masks(
    for factors: [AdapterFactors], of model: VideoModel,
    samples: () throws -> [(latents: Tensor, context: Tensor)]
  ) throws -> [String: FactorMask]?
  /// The tensors beside the pairs, as they start.
  func parameters(for model: VideoModel, _ random: inout TorchRandom) throws -> [ExtraParameter]
  /// Throws for the first clip of `data` that the method cannot use, before anything is computed.
  func check(_ data: any TrainingData) throws(TrainingError)
  /// The context of one sample's run: its strength, control tokens, masks. `frames` are those of the backbone's tokens,
  /// `extra` the method's tensors, recorded while gradients are taken.
  /// - Throws: `TrainingError` for a label that the method cannot use.
  func context(_ run: RunContext, label: JSONObject, frames: Int, extra: [Tensor]) throws -> RunContext
  /// The loss of one sample, a scalar.
  func loss(_ prediction: Tensor, _ item: BatchItem) -> Tensor
  /// What is added to a batch's loss, a scalar of recorded pairs `[A, B, A, B, …]` and tensors; nil for nothing.
  func penalty(pairs: [Tensor], extra: [Tensor]) -> Tensor?
  /// The strength token that the method's tensors are; nil where the strength multiplies.
  func control(_ extra: [Tensor]) -> ControlToken?
}

extension TrainingMethod {
  package func masks(
    for factors: [AdapterFactors], of model: VideoModel,
    samples: () throws -> [(latents: Tensor, context: Tensor)]
  ) throws -> [String: FactorMask]? { nil }
  package func parameters(for model: VideoModel, _ random: inout TorchRandom) -> [ExtraParameter] { [] }
  package func check(_ data: any TrainingData) throws(TrainingError) {}
  package func context(_ run: RunContext, label: JSONObject, frames: Int, extra: [Tensor]) throws
    -> RunContext
  { run }
  package func loss(_ prediction: Tensor, _ item: BatchItem) -> Tensor {
    prediction.meanSquaredError(item.noisy.target)
  }
  package func penalty(pairs: [Tensor], extra: [Tensor]) -> Tensor? { nil }
  package func control(_ extra: [Tensor]) -> ControlToken? { nil }
}

/// A plain LoRA: pairs, the model's own loss, strength 1.
package struct PlainMethod: TrainingMethod {
  package init() {}
}

extension TrainingRecipe {
  /// Names of the methods that recipes may have.
  static let methods = ["lora", "lion", "motion-lora"]

  /// The method that the recipe names.
  func makeMethod(for model: VideoModel) throws -> any TrainingMethod {
    switch method {
    case "lion": try LionMethod(self, for: model)
    case "motion-lora": MotionMethod(self)
    default: PlainMethod()
    }
  }
}
