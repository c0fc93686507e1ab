package import DiffusionLayers
package import TensorCore

/// Keys and values that video tokens see in one block beside each other's: those of the control tokens of their own
/// latent frame.
package struct WanControlKeys: Sendable {
  /// `[B, F, K, H, D/H]` for K adapters: normalised, without rotary positions.
  package let keys: Tensor
  package let values: Tensor
  /// Added to the logits, `[K]`.
  package let bias: Tensor

  package init(keys: Tensor, values: Tensor, bias: Tensor) {
    (self.keys, self.values, self.bias) = (keys, values, bias)
  }
}

/// The control tokens of a run on their way through the blocks.
///
/// A token looks at nobody but itself, and its projections use the base and its own adapter alone: it stays a function
/// of its strength, of the time and of that adapter, whatever else is loaded. Text tokens never see it. After the last
/// block it is dropped.
///
/// Reference: LiON-LoRA (2507.05678), modified self-attention; the rule of the mask is ours.
struct WanControls: Sendable {
  private struct Token: Sendable {
    /// `[B, F, D]`
    var x: Tensor
    let bias: Tensor
    let run: RunContext
  }

  private var tokens: [Token]

  /// Nil for a run without control tokens.
  init?(_ run: RunContext, batch: Int) {
    guard !run.controls.isEmpty else { return nil }
    tokens = run.controls.map { signal in
      var own = run.along(.none)
      own.controls = []
      own.isControlToken = true
      let adapters = max(run.strengths.count, signal.adapterIndex + 1)
      own.strengths = (0..<adapters).map { [$0 == signal.adapterIndex ? 1 : 0] }
      let tokens = signal.tokens
      let isShared = tokens.shape[0] == 1 && batch > 1
      return Token(
        x: isShared ? Tensor.concatenated([Tensor](repeating: tokens, count: batch), axis: 0) : tokens,
        bias: signal.bias, run: own)
    }
  }

  /// The keys and values of block `index`, and the tokens' own way through it.
  mutating func pass(_ block: WanBlock, index: Int, time: Tensor) -> WanControlKeys {
    let modulation = block.scaleShiftTable + time  // [B, 6, D]
    let part = { modulation.narrow(1, from: $0, length: 1) }
    var (keys, values, bias): ([Tensor], [Tensor], [Tensor]) = ([], [], [])
    let (heads, dim) = (block.attn1.heads, block.scaleShiftTable.shape[2])
    for position in tokens.indices {
      let token = tokens[position]
      let shape = [token.x.shape[0], token.x.shape[1], 1, heads, dim / heads]
      let input = block.norm1(token.x, scale: part(1), shift: part(0))
      let value = block.attn1.toV(input, token.run)
      keys.append(
        block.attn1.normK(block.attn1.toK(input, token.run), heads: heads, rope: nil, token.run).reshaped(
          shape))
      values.append(value.reshaped(shape))
      bias.append(token.bias.count == 1 ? token.bias : token.bias.narrow(0, from: index, length: 1))
      // Attention of a token to itself alone is its own value.
      let x = block.attn1.toOut(value, onto: token.x, gate: part(2), token.run)
      tokens[position].x = block.ffn(
        block.norm3(x, scale: part(4), shift: part(3)), onto: x, gate: part(5), token.run)
    }
    return WanControlKeys(
      keys: keys.count == 1 ? keys[0] : Tensor.concatenated(keys, axis: 2),
      values: values.count == 1 ? values[0] : Tensor.concatenated(values, axis: 2),
      bias: bias.count == 1 ? bias[0] : Tensor.concatenated(bias, axis: 0))
  }
}

extension WanControlKeys {
  /// Self-attention of video tokens `[B, L, H, D/H]`, `L / F` of them for each latent frame, over all of them and over
  /// their own frame's control tokens.
  package func attention(_ query: Tensor, _ key: Tensor, _ value: Tensor) -> Tensor {
    let (batch, frames, count) = (keys.shape[0], keys.shape[1], keys.shape[2])
    let (length, heads, size) = (query.shape[1], query.shape[2], query.shape[3])
    let own = [batch, frames * count, heads, size]
    let mask = AttentionMask(
      keyBias: Tensor.concatenated(
        [Tensor.zeros([length])] + [Tensor](repeating: bias, count: frames), axis: 0),
      frames: FrameVisibility(frames: frames, perFrame: length / frames, extra: count))
    return Tensor.attention(
      query, Tensor.concatenated([key, keys.reshaped(own)], axis: 1),
      Tensor.concatenated([value, values.reshaped(own)], axis: 1), mask: mask)
  }
}

extension WanTransformer {
  /// The keys and values of a run's control tokens in every block, empty without tokens. They depend on the time and on
  /// each token's own adapter, not on the video or the text.
  package func controlKeys(_ run: RunContext, timesteps: [Float]) -> [WanControlKeys] {
    controlKeys(run, time: conditionEmbedder(timesteps: timesteps, run).modulation)
  }

  /// The same for a time modulation `[B, 6, D]`.
  func controlKeys(_ run: RunContext, time: Tensor) -> [WanControlKeys] {
    guard var controls = WanControls(run, batch: time.shape[0]) else { return [] }
    return blocks.map { controls.pass($0, index: $0.index, time: time) }
  }
}
