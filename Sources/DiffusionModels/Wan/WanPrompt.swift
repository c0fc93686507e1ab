public import DiffusionLayers
import Glibc
public import TensorCore

/// A prompt as the blocks read it: the keys and values of every cross-attention, which depend on the prompt and the
/// adapters alone and not on the step.
///
/// The parts of the base and of each adapter stay apart, because the keys' norm follows their sum: a run with other
/// strengths adds them up again and multiplies nothing.
public struct WanPrompt: Sendable {
  /// Keys and values of one block's cross-attention.
  struct Block: Sendable {
    /// What other strengths need, where adapters change keys (before their norm) or values.
    let keyParts: AdaptedProduct?
    let valueParts: AdaptedProduct?
    /// `[B, Lc, H, D/H]`, the keys normalised, at the strengths of the prompt.
    let key: Tensor
    let value: Tensor
    /// What makes one key count for the tokens that it stands for.
    let mask: AttentionMask?

    /// The same with other keys and values.
    func with(key: Tensor, value: Tensor) -> Block {
      Block(keyParts: nil, valueParts: nil, key: key, value: value, mask: mask)
    }
  }
  let blocks: [Block]
  /// What it was made from.
  let context: Tensor
  /// The strength of each adapter that the keys and values are at.
  let strengths: [Float]
  /// How the adapters act together in it.
  let compose: ComposeMode
}

extension WanTransformer {
  /// The keys and values of text embeddings `context` `[B, Lc, textDim]` for all steps of runs with the adapters'
  /// mean strengths of `run`.
  public func prepare(context: Tensor, _ run: RunContext) throws(Cancelled) -> WanPrompt {
    let run = run.along(.none)
    // Padding is many equal rows: one key with the weight of them all.
    let repeated = Self.equalRowsAtEnd(context)
    let length = context.shape[1]
    let kept = repeated > 1 ? context.narrow(1, from: 0, length: length - repeated + 1) : context
    let mask: AttentionMask? =
      repeated > 1
      ? AttentionMask(
        keyBias: Tensor(
          [Float](repeating: 0, count: length - repeated) + [logf(Float(repeated))],
          shape: [length - repeated + 1]))
      : nil
    let text = conditionEmbedder.text(kept, run)
    var prepared: [WanPrompt.Block] = []
    for block in blocks {
      prepared.append(block.attn2.prepare(text, mask, run))
      try run.checkpoint()
    }
    return WanPrompt(blocks: prepared, context: context, strengths: Self.strengths(run), compose: run.compose)
  }

  /// The same prompt at the strengths of `run`.
  public func updated(_ prompt: WanPrompt, _ run: RunContext) throws(Cancelled) -> WanPrompt {
    let run = run.along(.none)
    if prompt.strengths == Self.strengths(run), prompt.compose == run.compose { return prompt }
    // A change in front of the activation is no sum of parts.
    if conditionEmbedder.hasTextAdapters || prompt.compose != run.compose {
      return try prepare(context: prompt.context, run)
    }
    return WanPrompt(
      blocks: zip(blocks, prompt.blocks).map { block, prepared in
        block.attn2.updated(prepared, run)
      }, context: prompt.context, strengths: Self.strengths(run), compose: run.compose)
  }

  private static func strengths(_ run: RunContext) -> [Float] {
    run.strengths.indices.map { run.meanStrength(of: $0) }
  }

  /// How many rows at the end of `[B, L, D]` have the same bytes in every batch entry.
  static func equalRowsAtEnd(_ x: Tensor) -> Int {
    let (batch, length, width) = (x.shape[0], x.shape[1], x.shape[2])
    return x.withFloats { floats in
      guard let start = floats.baseAddress else { return 1 }
      return (0..<batch).map { entry in
        let last = start + (entry * length + length - 1) * width
        var count = 1
        while count < length, memcmp(last, last - count * width, 4 * width) == 0 { count += 1 }
        return count
      }.min() ?? 1
    }
  }
}

extension WanAttention {
  /// Keys and values of the text's tokens `[B, Lc, D]`.
  func prepare(_ text: Tensor, _ mask: AttentionMask?, _ run: RunContext) -> WanPrompt.Block {
    let (keyParts, valueParts) = (toK.parts(text, run.compose), toV.parts(text, run.compose))
    return WanPrompt.Block(
      keyParts: keyParts.isAdapted || normK.isAdapted ? keyParts : nil,
      valueParts: valueParts.isAdapted ? valueParts : nil,
      key: normK(keyParts.sum(run), heads: heads, rope: nil, run), value: split(valueParts.sum(run)),
      mask: mask)
  }

  /// The same at the strengths of another run.
  func updated(_ prompt: WanPrompt.Block, _ run: RunContext) -> WanPrompt.Block {
    WanPrompt.Block(
      keyParts: prompt.keyParts, valueParts: prompt.valueParts,
      key: prompt.keyParts.map { normK($0.sum(run), heads: heads, rope: nil, run) } ?? prompt.key,
      value: prompt.valueParts.map { split($0.sum(run)) } ?? prompt.value, mask: prompt.mask)
  }
}
