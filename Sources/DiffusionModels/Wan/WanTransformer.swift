public import DiffusionLayers
public import TensorCore

// Reference: diffusers, models/transformers/transformer_wan.py. Names of weights are those of its
// checkpoints.

/// Self- or cross-attention with RMS-normalised queries and keys.
struct WanAttention: Sendable {
  let toQ: Linear
  let toK: Linear
  let toV: Linear
  let toOut: Linear
  let normQ: RMSNorm
  let normK: RMSNorm
  let heads: Int

  init(_ weights: Weights, _ config: WanConfig) throws(WeightsError) {
    let dim = config.dim
    toQ = try Linear(weights["to_q"], dim, dim)
    toK = try Linear(weights["to_k"], dim, dim)
    toV = try Linear(weights["to_v"], dim, dim)
    toOut = try Linear(weights["to_out"][0], dim, dim)
    normQ = try RMSNorm(weights["norm_q"], dim, eps: config.eps)
    normK = try RMSNorm(weights["norm_k"], dim, eps: config.eps)
    heads = config.numAttentionHeads
  }

  /// Tokens `x` `[B, L, D]` of block number `block` attend to each other, at rotary positions, and to the control
  /// tokens of their frames; the result times `gate` is added to `residual`.
  func callAsFunction(
    _ x: Tensor, rope: RotaryTable, block: Int, controls: WanControlKeys?, onto residual: Tensor,
    gate: Tensor,
    _ run: RunContext
  ) -> Tensor {
    let query = normQ(toQ(x, run), heads: heads, rope: rope, run)  // [B, L, H, D/H]
    let key = normK(toK(x, run), heads: heads, rope: rope, run)
    let value = split(toV(x, run))
    run.attentionTap?(block, query, key)
    let mixed = controls?.attention(query, key, value) ?? Tensor.attention(query, key, value)
    return toOut(mixed.reshaped(x.shape), onto: residual, gate: gate, run)
  }

  /// Tokens `x` `[B, L, D]` attend to the prompt; the result is added to `residual`.
  func callAsFunction(_ x: Tensor, prompt: WanPrompt.Block, onto residual: Tensor, _ run: RunContext)
    -> Tensor
  {
    let query = normQ(toQ(x, run), heads: heads, rope: nil, run)
    let mixed = Tensor.attention(query, prompt.key, prompt.value, mask: prompt.mask)
    return toOut(mixed.reshaped(x.shape), onto: residual, run)
  }

  /// Channels `[B, L, D]` as heads `[B, L, H, D/H]`.
  func split(_ x: Tensor) -> Tensor {
    x.reshaped([x.shape[0], x.shape[1], heads, x.shape[2] / heads])
  }
}

/// One transformer block: modulated self-attention, cross-attention to the text, modulated feed-forward.
struct WanBlock: Sendable {
  let norm1: LayerNorm
  let attn1: WanAttention
  let norm2: LayerNorm?
  let attn2: WanAttention
  let norm3: LayerNorm
  let ffn: FeedForward
  let scaleShiftTable: Tensor
  let index: Int

  init(_ weights: Weights, _ config: WanConfig, index: Int) throws(WeightsError) {
    self.index = index
    norm1 = LayerNorm(eps: config.eps)
    attn1 = try WanAttention(weights["attn1"], config)
    norm2 = config.crossAttnNorm ? try LayerNorm(weights["norm2"], config.dim, eps: config.eps) : nil
    attn2 = try WanAttention(weights["attn2"], config)
    norm3 = LayerNorm(eps: config.eps)
    ffn = try FeedForward(weights["ffn"], config.dim, inner: config.ffnDim)
    scaleShiftTable = try weights.tensor("scale_shift_table", shape: [1, 6, config.dim])
  }

  /// Tokens `x` `[B, L, D]`, the block's part of the prompt, time modulation `time` `[B, 6, D]`.
  func callAsFunction(
    _ x: Tensor, prompt: WanPrompt.Block, time: Tensor, rope: RotaryTable, controls: WanControlKeys? = nil,
    _ run: RunContext
  ) throws(Cancelled) -> Tensor {
    let modulation = scaleShiftTable + time  // [B, 6, D]: shift, scale, gate of both modulated parts
    let part = { modulation.narrow(1, from: $0, length: 1) }

    // self-attention
    var x = attn1(
      norm1(x, scale: part(1), shift: part(0)), rope: rope, block: index, controls: controls, onto: x,
      gate: part(2), run)
    try run.checkpoint()

    // cross-attention
    x = attn2(norm2?(x, run) ?? x, prompt: prompt, onto: x, run)

    // feed-forward
    x = ffn(norm3(x, scale: part(4), shift: part(3)), onto: x, gate: part(5), run)
    try run.checkpoint()
    return x
  }
}

/// Embeddings of time and text.
struct WanConditionEmbedder: Sendable {
  let timeEmbedder: TimestepEmbedding
  let timeProj: Linear
  let textLinear1: Linear
  let textLinear2: Linear
  let freqDim: Int

  init(_ weights: Weights, _ config: WanConfig) throws(WeightsError) {
    timeEmbedder = try TimestepEmbedding(weights["time_embedder"], config.freqDim, config.dim)
    timeProj = try Linear(weights["time_proj"], config.dim, 6 * config.dim)
    textLinear1 = try Linear(weights["text_embedder"]["linear_1"], config.textDim, config.dim)
    textLinear2 = try Linear(weights["text_embedder"]["linear_2"], config.dim, config.dim)
    freqDim = config.freqDim
  }

  /// - Returns: `embedding` `[B, D]`, `modulation` `[B, 6, D]`.
  func callAsFunction(timesteps: [Float], _ run: RunContext) -> (embedding: Tensor, modulation: Tensor) {
    let run = run.along(.none)
    let embedding = timeEmbedder(timestepEmbedding(timesteps, channels: freqDim), run)
    let modulation = timeProj(embedding.silu(), run)
    return (embedding, modulation.reshaped([timesteps.count, 6, -1]))
  }

  /// Text embeddings `[B, Lc, textDim]` as tokens `[B, Lc, D]`.
  func text(_ text: Tensor, _ run: RunContext) -> Tensor {
    let run = run.along(.none)
    return textLinear2(textLinear1(text, run, activation: .geluTanh), run)
  }

  /// Whether adapters change the embedding of text.
  var hasTextAdapters: Bool { textLinear1.isAdapted || textLinear2.isAdapted }
}

/// The Wan 2.1 text-to-video denoiser.
public struct WanTransformer: Sendable {
  public let config: WanConfig
  let patchEmbedding: Linear
  let conditionEmbedder: WanConditionEmbedder
  let blocks: [WanBlock]
  let normOut: LayerNorm
  let projOut: Linear
  let scaleShiftTable: Tensor
  private let rotary: RotaryMemory

  /// Builds the model from a checkpoint in diffusers' naming.
  public init(_ weights: Weights, _ config: WanConfig) throws(WeightsError) {
    self.config = config
    let patch = config.patchSize
    let dim = config.dim
    patchEmbedding = try Linear(patches: weights["patch_embedding"], [config.inChannels] + patch, dim)
    conditionEmbedder = try WanConditionEmbedder(weights["condition_embedder"], config)
    var blocks: [WanBlock] = []
    for index in 0..<config.numLayers {
      blocks.append(try WanBlock(weights["blocks"][index], config, index: index))
    }
    self.blocks = blocks
    normOut = LayerNorm(eps: config.eps)
    projOut = try Linear(weights["proj_out"], dim, config.outChannels * patch[0] * patch[1] * patch[2])
    scaleShiftTable = try weights.tensor("scale_shift_table", shape: [1, 2, dim])
    rotary = RotaryMemory(headDim: config.attentionHeadDim)
  }

  /// Predicts the velocity of `latents` `[B, C, F, H, W]` at `timesteps` (one per batch entry, 0…1000) given
  /// text embeddings `context` `[B, Lc, textDim]`. `F`, `H`, `W` are multiples of the patch size.
  public func callAsFunction(
    _ latents: Tensor, timesteps: [Float], context: Tensor, _ run: RunContext
  ) throws(Cancelled) -> Tensor {
    try self(latents, timesteps: timesteps, prompt: try prepare(context: context, run), run)
  }

  /// The same with a prompt that was prepared once for all steps, at the strengths of `run`.
  public func callAsFunction(
    _ latents: Tensor, timesteps: [Float], prompt: WanPrompt, _ run: RunContext
  ) throws(Cancelled) -> Tensor {
    var cache = FirstBlockCache()
    return try callAsFunction(latents, timesteps: timesteps, prompt: prompt, run, cache: &cache)
  }

  /// The same with a clip's memory of its steps, which may leave out blocks.
  public func callAsFunction(
    _ latents: Tensor, timesteps: [Float], prompt: WanPrompt, _ run: RunContext, cache: inout FirstBlockCache
  ) throws(Cancelled) -> Tensor {
    // patches along frames, rows, columns
    let grid = zip(latents.shape[2...], config.patchSize).map { $0 / $1 }
    let run = run.along(.frames(perFrame: grid[1] * grid[2]))
    let rope = rotary(run.positions ?? countedPositions(grid))

    var x = patchEmbedding(patchify(latents, grid), run)  // [B, L, D]
    let (embedding, modulation) = conditionEmbedder(timesteps: timesteps, run)
    // Tokens pass through all blocks first: a block that the cache leaves out does not hold them up.
    let controls = controlKeys(run, time: modulation)
    x = try cache.run(x, blocks: blocks.count) { index, x throws(Cancelled) in
      let text = prompt.blocks[index]
      let keys = controls.isEmpty ? nil : controls[index]
      return run.recomputesActivations
        ? try blocks[index].checkpointed(x, prompt: text, time: modulation, rope: rope, controls: keys, run)
        : try blocks[index](x, prompt: text, time: modulation, rope: rope, controls: keys, run)
    }
    // [B, 2, D]: shift, scale
    let head = scaleShiftTable + embedding.reshaped([timesteps.count, 1, config.dim])
    x = normOut(x, scale: head.narrow(1, from: 1, length: 1), shift: head.narrow(1, from: 0, length: 1))
    return unpatchify(projOut(x, run), grid)
  }

  private func countedPositions(_ grid: [Int]) -> RotaryPositions {
    let axes = grid.map { (0..<$0).map(Float.init) }
    return RotaryPositions(frames: axes[0], rows: axes[1], columns: axes[2])
  }

  /// `[B, C, F, H, W]` to `[B, L, C * patch]`.
  private func patchify(_ x: Tensor, _ grid: [Int]) -> Tensor {
    let (batch, channels, patch) = (x.shape[0], x.shape[1], config.patchSize)
    return x.reshaped([batch, channels, grid[0], patch[0], grid[1], patch[1], grid[2], patch[2]])
      .permuted([0, 2, 4, 6, 1, 3, 5, 7])
      .reshaped([batch, grid.reduce(1, *), -1])
  }

  /// `[B, L, patch * C]` to `[B, C, F, H, W]`.
  private func unpatchify(_ x: Tensor, _ grid: [Int]) -> Tensor {
    let (batch, patch) = (x.shape[0], config.patchSize)
    return x.reshaped([batch] + grid + patch + [config.outChannels])
      .permuted([0, 7, 1, 4, 2, 5, 3, 6])
      .reshaped([batch, config.outChannels] + zip(grid, patch).map { $0 * $1 })
  }
}
