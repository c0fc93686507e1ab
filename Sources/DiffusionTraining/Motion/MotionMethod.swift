package import DiffusionLayers
import DiffusionModels
package import DiffusionPipelines
package import TensorCore

/// MotionLoRA: pairs on the attention between frames alone, so that they learn how things move and not what they look like.
///
/// In a UNet those are the projections of its motion modules; in a transformer, whose self-attention looks at all frames at
/// once, the heads that look at other frames, by masks on the pairs: rows of B for queries, keys and values, columns of A
/// for the output. What is written stays an ordinary LoRA.
///
/// Reference: AnimateDiff (2307.04725), MotionLoRA; MotionDirector's train.py, the debias loss.
package struct MotionMethod: TrainingMethod {
  private let settings: MotionRecipe

  package init(_ recipe: TrainingRecipe) { settings = recipe.motion }

  /// `mean(e²) + w mean((√2 e - eₐ)²)` with `e` the prediction's error and `eₐ` that of the anchor frame.
  package func loss(_ prediction: Tensor, _ item: BatchItem) -> Tensor {
    let plain = prediction.meanSquaredError(item.noisy.target)
    guard settings.debias > 0 else { return plain }
    let error = prediction - item.noisy.target
    let rest = error * Float(2).squareRoot() - error.narrow(2, from: item.anchor, length: 1)
    return plain + (rest * rest).sum() * (Float(settings.debias) / Float(rest.count))
  }

  package func masks(
    for factors: [AdapterFactors], of model: VideoModel,
    samples: () throws -> [(latents: Tensor, context: Tensor)]
  ) throws -> [String: FactorMask]? {
    guard settings.heads == .temporal, let config = try? model.transformerConfig else { return nil }
    let masks = Self.masks(
      for: factors, try HeadMap(of: model, samples: try samples()), width: config.dim)
    guard !masks.isEmpty else {
      throw TrainingError.recipe(
        key: "motion",
        reason:
          "asks for heads that look at other frames, and '\(model.info.name)' has none; set heads to all")
    }
    return masks
  }

  /// The masks of the pairs of a transformer `width` wide; layers that are not of its self-attention are trained whole.
  package static func masks(
    for factors: [AdapterFactors], _ map: HeadMap, width: Int
  ) -> [String: FactorMask] {
    var masks: [String: FactorMask] = [:]
    for pair in factors {
      let parts = pair.module.split(separator: ".").map(String.init)
      guard parts.count > 3, parts[0] == "blocks", parts[2] == "attn1", let block = Int(parts[1]) else {
        masks[pair.module] = FactorMask()
        continue
      }
      let heads = map.temporal[block]
      guard heads.contains(true) else { continue }
      let kept = heads.flatMap { [Float](repeating: $0 ? 1 : 0, count: width / heads.count) }
      masks[pair.module] =
        parts[3] == "to_out"
        ? FactorMask(down: Tensor(kept, shape: [1, kept.count]))
        : FactorMask(up: Tensor(kept, shape: [kept.count, 1]))
    }
    return masks
  }
}
