public import DiffusionLayers
public import TensorCore

/// A prompt as the UNet's cross-attentions read it: keys and values, which depend on the prompt and the adapters alone and
/// neither on the step nor on the frame.
public struct UNetPrompt: BackbonePrompt {
  /// Keys and values of one cross-attention.
  struct Block: Sendable {
    /// What other strengths need, where adapters change them.
    let keyParts: AdaptedProduct?
    let valueParts: AdaptedProduct?
    /// `[B, Lc, H, D/H]`, at the strengths of the prompt.
    let key: Tensor
    let value: Tensor
  }
  let blocks: [Block]
  /// What it was made from.
  let context: Tensor
  /// The strength of each adapter that the keys and values are at.
  let strengths: [Float]
  let compose: ComposeMode

  /// The same with other keys and values at some places, in turn.
  func replacing(_ places: [Int], with tensors: [Tensor]) -> UNetPrompt {
    var blocks = blocks
    for (index, place) in places.enumerated() {
      blocks[place] = Block(
        keyParts: nil, valueParts: nil, key: tensors[2 * index], value: tensors[2 * index + 1])
    }
    return UNetPrompt(blocks: blocks, context: context, strengths: strengths, compose: compose)
  }
}

extension UNetMotionModel {
  /// The keys and values of text embeddings `context` `[B, Lc, textDim]` for all steps of runs with the adapters' mean
  /// strengths of `run`.
  public func prepare(context: Tensor, _ run: RunContext) throws(Cancelled) -> UNetPrompt {
    let run = run.along(.none)
    var prepared: [UNetPrompt.Block] = []
    for attention in crossAttentions {
      prepared.append(attention.prepare(context, run))
      try run.checkpoint()
    }
    return UNetPrompt(
      blocks: prepared, context: context, strengths: Self.strengths(run), compose: run.compose)
  }

  /// The same prompt at the strengths of `run`: nothing is multiplied unless the adapters are composed otherwise.
  public func updated(_ prompt: UNetPrompt, _ run: RunContext) throws(Cancelled) -> UNetPrompt {
    let run = run.along(.none)
    if prompt.compose != run.compose { return try prepare(context: prompt.context, run) }
    if prompt.strengths == Self.strengths(run) { return prompt }
    return UNetPrompt(
      blocks: zip(crossAttentions, prompt.blocks).map { $0.updated($1, run) }, context: prompt.context,
      strengths: Self.strengths(run), compose: run.compose)
  }

  private static func strengths(_ run: RunContext) -> [Float] {
    run.strengths.indices.map { run.meanStrength(of: $0) }
  }
}

extension UNetAttention {
  /// Keys and values of the text's tokens `[B, Lc, D]`.
  fileprivate func prepare(_ text: Tensor, _ run: RunContext) -> UNetPrompt.Block {
    let (keys, values) = (toK.parts(text, run.compose), toV.parts(text, run.compose))
    return UNetPrompt.Block(
      keyParts: keys.isAdapted ? keys : nil, valueParts: values.isAdapted ? values : nil,
      key: split(keys.sum(run)), value: split(values.sum(run)))
  }

  /// The same at the strengths of another run.
  fileprivate func updated(_ prompt: UNetPrompt.Block, _ run: RunContext) -> UNetPrompt.Block {
    UNetPrompt.Block(
      keyParts: prompt.keyParts, valueParts: prompt.valueParts,
      key: prompt.keyParts.map { split($0.sum(run)) } ?? prompt.key,
      value: prompt.valueParts.map { split($0.sum(run)) } ?? prompt.value)
  }

  /// `[B, L, D]` as heads `[B, L, H, D/H]`.
  private func split(_ x: Tensor) -> Tensor {
    x.reshaped([x.shape[0], x.shape[1], heads, x.shape[2] / heads])
  }
}
