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
  func parameters(for model: VideoModel, _ random: inout TorchRandom) -> [ExtraParameter]
  /// The context of one sample's run: its strength, control tokens, masks. `extra` are the method's tensors, recorded
  /// while gradients are taken.
  func context(_ run: RunContext, label: JSONObject, extra: [Tensor]) -> RunContext
  /// What is added to a batch's loss, a scalar of recorded pairs `[A, B, A, B, …]` and tensors; nil for nothing.
  func penalty(pairs: [Tensor], extra: [Tensor]) -> Tensor?
}

extension TrainingMethod {
  package func parameters(for model: VideoModel, _ random: inout TorchRandom) -> [ExtraParameter] { [] }
  package func context(_ run: RunContext, label: JSONObject, extra: [Tensor]) -> RunContext { run }
  package func penalty(pairs: [Tensor], extra: [Tensor]) -> Tensor? { nil }
}

/// A plain LoRA: pairs, the model's own loss, strength 1.
package struct PlainMethod: TrainingMethod {
  package init() {}
}
