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

/// What sets one way of training apart from another: tensors of its own, what a sample's run carries, terms of the loss.
package protocol TrainingMethod: Sendable {
  /// The tensors beside the pairs, as they start.
  func parameters(for model: VideoModel, _ random: inout TorchRandom) throws -> [ExtraParameter]
  /// Throws for the first clip of `data` that the method cannot use, before anything is computed.
  func check(_ data: any TrainingData) throws(TrainingError)
  /// The context of one sample's run: its strength, control tokens, masks. `frames` are those of the backbone's tokens,
  /// `extra` the method's tensors, recorded while gradients are taken.
  /// - Throws: `TrainingError` for a label that the method cannot use.
  func context(_ run: RunContext, label: JSONObject, frames: Int, extra: [Tensor]) throws -> RunContext
  /// What is added to a batch's loss, a scalar of recorded pairs `[A, B, A, B, …]` and tensors; nil for nothing.
  func penalty(pairs: [Tensor], extra: [Tensor]) -> Tensor?
  /// The strength token that the method's tensors are; nil where the strength multiplies.
  func control(_ extra: [Tensor]) -> ControlToken?
}

extension TrainingMethod {
  package func parameters(for model: VideoModel, _ random: inout TorchRandom) -> [ExtraParameter] { [] }
  package func check(_ data: any TrainingData) throws(TrainingError) {}
  package func context(_ run: RunContext, label: JSONObject, frames: Int, extra: [Tensor]) throws
    -> RunContext
  { run }
  package func penalty(pairs: [Tensor], extra: [Tensor]) -> Tensor? { nil }
  package func control(_ extra: [Tensor]) -> ControlToken? { nil }
}

/// A plain LoRA: pairs, the model's own loss, strength 1.
package struct PlainMethod: TrainingMethod {
  package init() {}
}

extension TrainingRecipe {
  /// Names of the methods that recipes may have.
  static let methods = ["lora", "lion"]

  /// The method that the recipe names.
  func makeMethod(for model: VideoModel) throws -> any TrainingMethod {
    method == "lion" ? try LionMethod(self, for: model) : PlainMethod()
  }
}
