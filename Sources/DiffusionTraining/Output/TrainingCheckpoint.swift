package import DiffusionLayers
import Glibc
import TensorCore

/// A training's whole state in one safetensors file beside the output, from which it goes on bit by bit.
package enum TrainingCheckpoint {
  /// Where the checkpoint of an output lies.
  package static func path(for output: String) -> String {
    let stem = output.hasSuffix(".safetensors") ? String(output.dropLast(".safetensors".count)) : output
    return stem + ".resume.safetensors"
  }

  /// Writes the file whole or not at all; a full disk leaves the one before.
  package static func write(_ state: TrainableState, recipe: TrainingRecipe, model: String, to path: String)
    throws(WeightsError)
  {
    var writer = SafetensorsWriter(metadata: [
      ("format", "videolora training 1"), ("model", model),
      ("recipe", JSONValue.object(recipe.json).serialized()), ("step", "\(state.step)"),
    ])
    let values = state.values
    for (index, name) in state.names.enumerated() {
      writer.add("value.\(name)", values[index])
      writer.add("first.\(name)", state.optimizer.first[index])
      writer.add("second.\(name)", state.optimizer.second[index])
      if !state.average.isEmpty { writer.add("average.\(name)", state.average[index]) }
    }
    if state.step > 0 { writer.add("losses", Tensor(state.losses, shape: [state.step])) }
    try writer.write(to: path)
  }

  /// Reads the file into a state of the same recipe.
  /// - Throws: `TrainingError.checkpoint` for one of another recipe or model, `WeightsError` for a damaged one.
  package static func read(
    _ path: String, into start: TrainableState, recipe: TrainingRecipe, model: String
  ) throws -> TrainableState {
    let file = try SafetensorsFile(path: path)
    guard let text = file.metadata("recipe"), let step = file.metadata("step").flatMap({ Int($0) }),
      let saved = try JSONValue.parse(text, file: path).object
    else { throw TrainingError.checkpoint(file: path, reason: "it is no checkpoint of a training") }
    // A checkpoint from before a key existed was made with its default.
    let (wanted, defaults) = (recipe.json, TrainingRecipe().json)
    for key in wanted.keys where (saved[key] ?? defaults[key]) != wanted[key] {
      throw TrainingError.checkpoint(
        file: path,
        reason: "it was made with \(key) \(saved[key] ?? defaults[key] ?? .null) and now it is "
          + "\(wanted[key] ?? .null); give the same options, or delete it to start anew")
    }
    if let other = file.metadata("model"), other != model {
      throw TrainingError.checkpoint(file: path, reason: "it was made with the model '\(other)'")
    }
    var state = start
    func tensors(_ kind: String, like shapes: [Tensor]) throws -> [Tensor] {
      try zip(state.names, shapes).map { name, like in
        let tensor = try file.load("\(kind).\(name)")
        guard tensor.shape == like.shape else {
          throw TrainingError.checkpoint(
            file: path, reason: "'\(name)' has the shape \(tensor.shape) instead of \(like.shape)")
        }
        return tensor
      }
    }
    let values = try tensors("value", like: start.values)
    state.optimizer.first = try tensors("first", like: values)
    state.optimizer.second = try tensors("second", like: values)
    state.optimizer.count = step
    if !start.average.isEmpty { state.average = try tensors("average", like: values) }
    state.values = values
    state.losses = step > 0 ? try file.load("losses").array() : []
    guard state.step == step else {
      throw TrainingError.checkpoint(file: path, reason: "it has \(state.step) losses for \(step) steps")
    }
    return state
  }

  /// Removes the file of a training that is done.
  package static func remove(_ path: String) { unlink(path) }
}
