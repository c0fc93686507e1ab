import DiffusionLayers
import TensorCore

extension WanBlock {
  /// The block with its activations computed again for the gradient (`Tensor.checkpoint`).
  func checkpointed(
    _ x: Tensor, prompt: WanPrompt.Block, time: Tensor, rope: RotaryTable, _ run: RunContext
  ) throws(Cancelled) -> Tensor {
    var again = run
    again.cancellation = nil
    return try Tensor.checkpoint([x, prompt.key, prompt.value, time]) { inputs throws(Cancelled) in
      try self(
        inputs[0], prompt: prompt.with(key: inputs[1], value: inputs[2]), time: inputs[3], rope: rope, run)
    } again: { [again] inputs in
      guard
        let y = try? self(
          inputs[0], prompt: prompt.with(key: inputs[1], value: inputs[2]), time: inputs[3], rope: rope, again
        )
      else {
        preconditionFailure("a run without a cancellation was cancelled")
      }
      return y
    }
  }
}
