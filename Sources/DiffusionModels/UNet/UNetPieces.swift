import DiffusionLayers
import TensorCore

/// How a batch passes a UNet: as a whole, or its entries, such as both prompts of guidance, one after another.
///
/// The arithmetic is the same and nearly as fast with thousands of tokens each, and activations take the memory of one entry.
struct UNetPieces {
  private let parts: [(prompt: UNetPrompt, unet: UNetRun)]
  private let areApart: Bool

  /// Tokens of an entry from which on it goes alone.
  static let leastTokens = 4096

  init(_ batch: Int, tokens: Int, _ prompt: UNetPrompt, _ unet: UNetRun) {
    areApart = batch > 1 && tokens / batch >= Self.leastTokens
    parts = areApart ? (0..<batch).map { (prompt.entry($0), unet.entry($0)) } : [(prompt, unet)]
  }

  /// `body` over `inputs` `[B, L, D]`, whole or entry by entry.
  func joined(
    _ inputs: [Tensor], _ body: ([Tensor], UNetPrompt, UNetRun) throws(Cancelled) -> Tensor
  ) throws(Cancelled) -> Tensor {
    guard areApart else { return try body(inputs, parts[0].prompt, parts[0].unet) }
    var results: [Tensor] = []
    for (index, part) in parts.enumerated() {
      results.append(
        try body(
          inputs.map { $0.narrow(0, from: index, length: 1).contiguous() }, part.prompt, part.unet))
    }
    return Tensor.concatenated(results, axis: 0)
  }
}

extension UNetRun {
  /// The same for one entry of the batch.
  fileprivate func entry(_ index: Int) -> UNetRun {
    var copy = self
    copy.time = time.narrow(0, from: index, length: 1).contiguous()
    return copy
  }
}

extension UNetPrompt {
  /// The keys and values of one entry of the batch.
  fileprivate func entry(_ index: Int) -> UNetPrompt {
    let part = { (tensor: Tensor) in tensor.narrow(0, from: index, length: 1).contiguous() }
    return UNetPrompt(
      blocks: blocks.map {
        Block(keyParts: nil, valueParts: nil, key: part($0.key), value: part($0.value))
      }, context: part(context), strengths: strengths, compose: compose)
  }
}
