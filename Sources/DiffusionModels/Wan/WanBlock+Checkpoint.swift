import DiffusionLayers
import TensorCore

extension WanBlock {
  /// The block with its activations computed again for the gradient (`Tensor.checkpoint`).
  func checkpointed(
    _ x: Tensor, prompt: WanPrompt.Block, time: Tensor, rope: RotaryTable, controls: WanControlKeys? = nil,
    _ run: RunContext
  ) throws(Cancelled) -> Tensor {
    var again = run
    again.cancellation = nil
    let extra = controls.map { [$0.keys, $0.values, $0.bias] } ?? []
    let keys = { @Sendable (inputs: [Tensor]) -> WanControlKeys? in
      inputs.count > 4 ? WanControlKeys(keys: inputs[4], values: inputs[5], bias: inputs[6]) : nil
    }
    return try Tensor.checkpoint([x, prompt.key, prompt.value, time] + extra) { inputs throws(Cancelled) in
      try self(
        inputs[0], prompt: prompt.with(key: inputs[1], value: inputs[2]), time: inputs[3], rope: rope,
        controls: keys(inputs), run)
    } again: { [again] inputs in
      guard
        let y = try? self(
          inputs[0], prompt: prompt.with(key: inputs[1], value: inputs[2]), time: inputs[3], rope: rope,
          controls: keys(inputs), again)
      else {
        preconditionFailure("a run without a cancellation was cancelled")
      }
      return y
    }
  }
}
