extension WanTransformer {
  /// Whether a tensor of this name (diffusers' naming) may be rounded to 8 bits: the matrices of the blocks'
  /// attentions and feed-forwards, which are nearly all of the arithmetic. The embeddings of patches, time and text,
  /// the modulation, the norms and the output projection act on every token alike and stay as they are.
  public static func toleratesInt8(_ tensor: String) -> Bool {
    guard tensor.hasPrefix("blocks."), tensor.hasSuffix(".weight") else { return false }
    let module = tensor.split(separator: ".").dropFirst(2).first
    return module == "attn1" || module == "attn2" || module == "ffn"
  }
}
