package import DiffusionLayers
import DiffusionModels
package import DiffusionPipelines
import Glibc
package import TensorCore

/// LiON-LoRA: a strength token beside the pairs. How much of the motion its clip shows, the token says, which is affine in
/// that number.
///
/// Tokens, mask and routing are those of a run (`WanControls`): the trainer makes the same `ControlSignal`.
///
/// Trained are the token in the middle of the range and its way from there to the end; the file gets e0 and e1, the same
/// line. Of e0 and e1 themselves both gradients point the same way, an optimiser that takes steps of one size moves both
/// alike, and the norm in front of the projections drops their common factor: such a token says nothing.
///
/// Reference: LiON-LoRA (2507.05678), controllable token; its parametrisation and the start are ours.
package struct LionMethod: TrainingMethod {
  private let settings: ControlRecipe
  /// By place among the trained pairs: input directions `[r, in]` of other adapters, each of norm 1.
  private let others: [[Tensor]]

  /// - Throws: `LoRAError` for a file of `orthogonal_to` that cannot be read or is for another model.
  package init(_ recipe: TrainingRecipe, for model: VideoModel) throws {
    settings = recipe.control
    let targets = try AdapterTargets.find(recipe.targets, in: model.backboneSource)
    var others = targets.map { _ in [Tensor]() }
    for path in settings.orthogonalTo {
      let match = try LoRAFile(path: path).match(against: model.backboneSource, strict: true)
      for (index, target) in targets.enumerated() {
        guard let pair = match.updates[target.module]?.pair else { continue }
        let norm = (pair.down * pair.down).sum().array()[0].squareRoot()
        if norm > 0 { others[index].append(pair.down * (1 / norm)) }
      }
    }
    self.others = others
  }

  /// Middle and way as large as a token's entries after the norm, so that steps turn them slowly enough for the pairs to
  /// learn what they say; and a bias for each block that gives the token's key `share` of the attention.
  package func parameters(for model: VideoModel, _ random: inout TorchRandom) throws -> [ExtraParameter] {
    let config = try model.transformerConfig
    let odds = Float(settings.share / (1 - settings.share))
    let bias = logf(odds * Float(try model.attentionKeys))
    func parameter(_ name: String, _ value: Tensor) -> ExtraParameter {
      ExtraParameter(name: name, value: value, rateFactor: settings.rate)
    }
    return [
      parameter("control.middle", random.randn([config.dim])),
      parameter("control.way", random.randn([config.dim])),
      parameter("control.bias", Tensor(repeating: bias, shape: [config.numLayers])),
    ]
  }

  package func check(_ data: any TrainingData) throws(TrainingError) {
    for index in 0..<data.count {
      guard let (name, label) = data.label(index) else { return }
      if let reason = problem(label) { throw .data(path: name, reason: reason) }
    }
  }

  package func context(_ run: RunContext, label: JSONObject, frames: Int, extra: [Tensor]) throws
    -> RunContext
  {
    if let reason = problem(label) { throw TrainingError.data(path: "a clip", reason: reason) }
    let (low, high) = (settings.range[0], settings.range[1])
    let strength = Float(label["amplitude"]?.double ?? 0)
    // Where all frames' tokens are alike, one that everybody sees is the same.
    let strengths = [Float](repeating: strength, count: settings.style.tokens == .path ? frames : 1)
    let places = settings.style.places(strengths).map { (2 * $0 - Float(low + high)) / Float(high - low) }
    let matrix = Tensor(places.flatMap { [1, $0] }, shape: [places.count, 2])
    let line = Tensor.concatenated(extra[..<2].map { $0.reshaped([1, $0.count]) }, axis: 0)
    var run = run
    run.controls = [
      ControlSignal(
        adapterIndex: 0,
        tokens: Tensor.linear(matrix, weight: line.permuted([1, 0]).contiguous()).reshaped([
          1, places.count, -1,
        ]),
        bias: extra[2])
    ]
    run.strengths = [[settings.style.pairs == .scaled ? strength : 1]]
    return run
  }

  /// `λ Σ ‖A Aⱼᵀ‖² / (‖A‖² ‖Aⱼ‖²)` over layers and other adapters (methods 1.3 d).
  package func penalty(pairs: [Tensor], extra: [Tensor]) -> Tensor? {
    var total: Tensor?
    for (index, list) in others.enumerated() {
      let down = pairs[2 * index]
      for other in list {
        let overlap = Tensor.linear(down, weight: other)
        let part = Self.ratio((overlap * overlap).sum(), (down * down).sum()) * Float(settings.orthogonality)
        total = total.map { $0 + part } ?? part
      }
    }
    return total
  }

  package func control(_ extra: [Tensor]) -> ControlToken? {
    let (low, high) = (settings.range[0], settings.range[1])
    let start = extra[0].adding(extra[1], scaledBy: Float(-(low + high) / (high - low)))
    let slope = extra[1] * Float(2 / (high - low))
    return ControlToken(
      coefficients: Tensor.concatenated([start, slope].map { $0.reshaped([1, $0.count]) }, axis: 0),
      bias: extra[2], range: settings.strengths, style: settings.style)
  }

  /// Why a clip with this label cannot be trained on.
  private func problem(_ label: JSONObject) -> String? {
    guard let amplitude = label["amplitude"]?.double else {
      return
        "has no label 'amplitude'; lion needs the strength of the motion in every clip (--moves makes such clips)"
    }
    guard amplitude >= settings.range[0], amplitude <= settings.range[1] else {
      return
        "has the amplitude \(amplitude), outside \(settings.range[0])…\(settings.range[1]) of the recipe's control.range"
    }
    return nil
  }

  /// `a / b` of two scalars with both gradients: its first-order expansion around what they are now.
  private static func ratio(_ a: Tensor, _ b: Tensor) -> Tensor {
    let (x, y) = (a.array()[0], max(b.array()[0], .leastNormalMagnitude))
    return a * (1 / y) + b * (-x / (y * y)) + x / y
  }
}
