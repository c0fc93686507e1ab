import DiffusionLayers
import DiffusionPipelines

/// What a run prints at its end.
struct RunSummary {
  let output: String
  let stages: StageSeconds
  let wall: Duration
  let width: Int
  let height: Int

  func show(json: Bool) {
    if json {
      print(
        JSONValue.object([
          "output": .string(output), "clips": .integer(stages.clips), "frames": .integer(stages.frames),
          "width": .integer(width), "height": .integer(height), "seconds": .number(wall.seconds),
          "text_s": .number(stages.text), "encode_s": .number(stages.encode),
          "denoise_s": .number(stages.denoise), "decode_s": .number(stages.decode),
          "steps": .integer(stages.steps), "cached_steps": .integer(stages.cachedSteps),
          "peak_bytes": .integer(stages.peakBytes),
        ]))
      return
    }
    print(
      "\(output): \(stages.frames) frames \(width)x\(height) in \(fixed(wall.seconds, 1)) s (text "
        + "\(fixed(stages.text, 2)), encode \(fixed(stages.encode, 2)), denoise \(fixed(stages.denoise, 2)), decode "
        + "\(fixed(stages.decode, 2)) s; peak \(mebibytes(stages.peakBytes)) of tensors)")
  }
}

extension Duration {
  /// The duration in seconds.
  var seconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
