public import DiffusionLayers

/// Everything that decides what a training does: data, not code. At most 25 keys, in JSON with underscores.
public struct TrainingRecipe: Sendable, Equatable {
  /// How the share of the noise is drawn, before the shift.
  public enum Timesteps: String, Sendable, CaseIterable {
    /// Every level equally likely.
    case uniform
    /// The same with one level from each of as many equal ranges as a batch has samples.
    case stratified
    /// The logistic function of a standard normal value (Esser et al., 2024).
    case logitNormal = "logit-normal"
  }

  /// What the learning rate does after the warm-up.
  public enum Decay: String, Sendable, CaseIterable {
    case constant
    /// Half a cosine down to nothing.
    case cosine
    /// Constant, and over the last 30 % of the steps in a line down to a twentieth.
    case tail
  }

  /// `lora`, `lion` for a strength token beside the pairs, or `motion-lora` for the attention between frames.
  public var method = "lora"
  /// What the adapter is for: content, style, motion, camera, effect or domain.
  public var role = "style"
  /// Layers by the ends of their names, by whole names with `*`, or `temporal`: the attention between frames.
  public var targets = ["to_q", "to_k", "to_v", "to_out.0"]
  public var rank = 16
  /// The pairs act with alpha / rank; 0 takes the rank.
  public var alpha = 0.0
  public var steps = 1000
  public var batch = 4
  public var learningRate = 1e-4
  /// Steps over which the learning rate rises from nothing.
  public var warmup = 30
  public var decay = Decay.cosine
  public var weightDecay = 0.01
  public var betas = [0.9, 0.999]
  public var epsilon = 1e-8
  /// Gradients are scaled down to this norm; 0 leaves them.
  public var clipNorm = 1.0
  /// Weight of the past in a moving average of the factors, which is what is written then; 0 is none.
  public var ema = 0.0
  /// Share of samples that lose their caption.
  public var captionDropout = 0.1
  /// Share of samples whose caption loses the word that their label gives for the role.
  public var triggerDropout = 0.0
  public var timesteps = Timesteps.stratified
  /// Of the noise levels towards high ones, for flows; 0 takes the model's.
  public var shift = 0.0
  public var seed = 0
  /// Frames of a clip; 0 takes all.
  public var frames = 0
  /// Whether activations are computed again for the gradient: less memory, a third more time, the same result.
  public var checkpointing = false
  /// Share of the clips that are kept back for a held-out loss.
  public var holdOut = 0.0
  /// Steps between resumable checkpoints, and between held-out losses.
  public var saveEvery = 200
  /// The strength token of `lion`.
  public var control = ControlRecipe()
  /// Of `motion-lora`.
  public var motion = MotionRecipe()
  /// How pairs of clips, before and after, are trained on; of `lora`.
  public var source = SourceRecipe()
  /// Licence of the adapter, for its header.
  public var licence = ""

  public init() {}

  /// The recipes that are known by name.
  public static let named: [String: TrainingRecipe] = [
    "lora": TrainingRecipe(), "lion": lion, "motion-lora": motionLoRA, "restyle": restyle,
  ]

  /// LiON-LoRA (2507.05678): the motion of labelled clips, its strength in a token. Captions never name the motion: text
  /// must not carry what the token is there for.
  private static let lion: TrainingRecipe = {
    var recipe = TrainingRecipe()
    (recipe.method, recipe.role) = ("lion", "camera")
    (recipe.rank, recipe.steps, recipe.batch) = (8, 1000, 8)
    recipe.triggerDropout = 1
    return recipe
  }()

  /// MotionLoRA (2307.04725): 20 to 50 clips of one camera move. Rate and batch are ours, the paper names none.
  private static let motionLoRA: TrainingRecipe = {
    var recipe = TrainingRecipe()
    (recipe.method, recipe.role, recipe.targets) = ("motion-lora", "camera", ["temporal"])
    (recipe.steps, recipe.batch) = (2000, 2)
    return recipe
  }()

  /// A style for video to video from pairs of clips, before and after. No keys and values of the self-attention: through
  /// them a frame would see the strengths of the others. No cross-attention: without a prompt it adds a constant.
  private static let restyle: TrainingRecipe = {
    var recipe = TrainingRecipe()
    recipe.targets = ["attn1.to_q", "attn1.to_out.0", "ffn.net.0.proj", "ffn.net.2"]
    (recipe.rank, recipe.learningRate, recipe.weightDecay, recipe.decay) = (12, 1e-3, 0, .tail)
    (recipe.captionDropout, recipe.source.share, recipe.source.animated) = (0.5, 0.8, 0.2)
    return recipe
  }()

  /// alpha / rank.
  public var scale: Double { (alpha > 0 ? alpha : Double(rank)) / Double(rank) }

  /// As one object: every key, but those of other methods.
  public var json: JSONObject {
    var object = JSONObject()
    for field in Self.fields where field.method == nil || field.method == method {
      object[field.key] = field.get(self)
    }
    return object
  }

  /// This recipe with the keys of `object` changed.
  /// - Throws: `TrainingError.recipe` naming a key that does not exist or a value that cannot be.
  public func changed(by object: JSONObject) throws(TrainingError) -> TrainingRecipe {
    var result = self
    for key in object.keys {
      guard let field = Self.fields.first(where: { $0.key == key }) else {
        throw .recipe(
          key: key, reason: "does not exist; a recipe has \(Self.fields.map(\.key).joined(separator: ", "))")
      }
      guard field.set(&result, object[key] ?? .null) else { throw .recipe(key: key, reason: field.rule) }
    }
    return result
  }
}
