/// Ways of adapting a model other than low-rank pairs. Files of these kinds are recognised and refused by name:
/// half of what they say cannot be applied, and half an adapter is worse than none.
public enum AdapterMethod: String, Sendable, CaseIterable {
  case dora, loha, lokr, glora, oft, boft, ia3, vera, hra, vblora, fourier, adalora, bone
  case tucker, reshape, embedding
  case setWeight = "set-weight"

  /// What a file of this kind is, as a sentence names it.
  public var name: String {
    switch self {
    case .dora: "a DoRA adapter (it has magnitude vectors)"
    case .loha: "a LoHa adapter (Hadamard products)"
    case .lokr: "a LoKr adapter (Kronecker products)"
    case .glora: "a GLoRA adapter"
    case .oft: "an OFT adapter (orthogonal matrices)"
    case .boft: "a BOFT adapter (butterfly matrices)"
    case .ia3: "an IA3 adapter (learned factors)"
    case .vera: "a VeRA adapter (shared random matrices)"
    case .hra: "an HRA adapter (Householder reflections)"
    case .vblora: "a VB-LoRA adapter (a bank of vectors)"
    case .fourier: "a FourierFT adapter"
    case .adalora: "an AdaLoRA adapter (it has singular values)"
    case .bone: "a Bone or MiSS adapter"
    case .tucker: "a LoCon adapter in Tucker form (it has lora_mid)"
    case .reshape: "an adapter that changes the shape of weights (it has reshape_weight)"
    case .setWeight: "an adapter that replaces weights (it has set_weight)"
    case .embedding: "an adapter with new token embeddings"
    }
  }

  /// The method that a tensor's name gives away, or nil.
  static func detect(_ key: String) -> AdapterMethod? {
    markers.first { marker, isEnding, _ in isEnding ? key.hasSuffix(marker) : key.contains(marker) }?.method
  }

  private static let markers: [(marker: String, isEnding: Bool, method: AdapterMethod)] = [
    (".dora_scale", true, .dora), (".lora_magnitude_vector", false, .dora), (".hada_", false, .loha),
    (".lokr_", false, .lokr), (".oft_blocks", true, .oft), (".oft_diag", true, .oft), (".oft_R", false, .oft),
    (".oft_r", false, .oft), (".boft_", false, .boft), (".ia3_", false, .ia3), (".on_input", true, .ia3),
    (".vera_lambda", false, .vera), (".hra_u", false, .hra), (".vblora_", false, .vblora),
    (".fourierft_", false, .fourier), (".lora_E", false, .adalora), (".bone_block", false, .bone),
    (".miss_block", false, .bone), (".lora_mid.weight", true, .tucker), (".reshape_weight", true, .reshape),
    (".set_weight", true, .setWeight), (".lora_embedding_A", false, .embedding),
    ("emb_params", true, .embedding),
    (".a1.weight", true, .glora), (".b1.weight", true, .glora), (".a2.weight", true, .glora),
    (".b2.weight", true, .glora),
  ]
}
