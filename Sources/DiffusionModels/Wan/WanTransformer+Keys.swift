public import DiffusionLayers

// Wan's own repository, and the single files made from it, name the tensors of the transformer otherwise than
// diffusers does.

/// The naming of a Wan transformer's tensors in a file.
public struct WanKeyNaming: Sendable, Equatable {
  /// Whether the names are those of Wan's own repository.
  public let isOriginal: Bool
  /// What stands before every name, such as `model.diffusion_model.` in files of all-in-one checkpoints.
  public let prefix: String

  private static let prefixes = ["", "model.diffusion_model.", "diffusion_model.", "model.", "transformer."]

  /// The naming of a file with these tensors, nil when it holds no Wan transformer.
  public static func detect(_ names: some Sequence<String>) -> WanKeyNaming? {
    let names = Set(names)
    for prefix in prefixes {
      for (mark, isOriginal) in [("self_attn.q", true), ("attn1.to_q", false)]
      where names.contains("\(prefix)blocks.0.\(mark).weight")
        && names.contains("\(prefix)patch_embedding.weight")
      {
        return WanKeyNaming(isOriginal: isOriginal, prefix: prefix)
      }
    }
    return nil
  }

  /// diffusers' name of a stored one, nil for a tensor that the model has no place for.
  func diffusersName(of stored: String) -> String? {
    guard stored.hasPrefix(prefix) else { return nil }
    let name = String(stored.dropFirst(prefix.utf8.count))
    guard isOriginal else { return name }
    // The tables of modules leave out what is no module of its own.
    let modulation = ".modulation"
    if name == "head" + modulation { return "scale_shift_table" }
    if name.hasPrefix("blocks."), name.hasSuffix(modulation) {
      return name.dropLast(modulation.count) + ".scale_shift_table"
    }
    guard let dot = name.lastIndex(of: "."), let module = ModuleNames.find(String(name[..<dot])),
      module.families.contains(.wan)
    else { return nil }
    return module.path + name[dot...]
  }

  /// The source under diffusers' names.
  /// - Throws: `ConfigError` for tensors that mark another kind of model, such as one that starts from an image.
  public func renamed(_ source: any WeightSource) throws(ConfigError) -> any WeightSource {
    for name in source.names {
      if let reason = Self.otherKind(of: name) {
        throw ConfigError(file: source.name, key: name, reason: reason)
      }
    }
    if !isOriginal && prefix.isEmpty { return source }
    var stored: [String: String] = [:]
    for name in source.names {
      if let diffusers = diffusersName(of: name) { stored[diffusers] = name }
    }
    return RenamedSource(source, stored: stored)
  }

  /// Why a checkpoint with this tensor is not a text-to-video one.
  private static func otherKind(of name: String) -> String? {
    if ["img_emb.", "k_img.", "add_k_proj.", "image_embedder."].contains(where: name.contains) {
      return "marks an image-to-video checkpoint, which needs a start image; use a text-to-video one"
    }
    if name.contains("vace_") {
      return "marks a VACE checkpoint, which is not supported; use a text-to-video one"
    }
    if name.contains("control_adapter.") || name.contains("ref_conv.") {
      return "marks a Fun-Control checkpoint, which is not supported; use a text-to-video one"
    }
    return nil
  }
}

extension WanConfig {
  /// The configuration of a checkpoint from the shapes of its tensors, under diffusers' names.
  ///
  /// - Parameter heads: number of attention heads, which no shape tells; nil takes heads of 128 as in every
  ///   released Wan model.
  /// - Throws: `ConfigError` naming the tensor that does not fit.
  public init(inferredFrom source: any WeightSource, heads: Int? = nil) throws(ConfigError) {
    func invalid(_ tensor: String, _ reason: String) -> ConfigError {
      ConfigError(file: source.name, key: tensor, reason: reason)
    }
    func shape(_ tensor: String, rank: Int) throws(ConfigError) -> [Int] {
      guard let shape = source.shape(of: tensor), shape.count == rank,
        shape.allSatisfy({ (1...1_000_000).contains($0) })
      else {
        throw invalid(tensor, "is missing or of another shape than in a Wan transformer")
      }
      return shape
    }
    let patch = try shape("patch_embedding.weight", rank: 5)
    let dim = patch[0]
    guard patch[2...].allSatisfy({ $0 <= 16 }) else {
      throw invalid("patch_embedding.weight", "has patches larger than 16")
    }
    let volume = patch[2] * patch[3] * patch[4]
    let heads = heads ?? dim / 128
    guard heads > 0, dim % heads == 0, (dim / heads) % 2 == 0 else {
      throw invalid(
        "patch_embedding.weight",
        "has \(dim) outputs, which \(heads) heads (of 128 in released models) do not divide; put the model's "
          + "config.json with num_heads beside the file")
    }
    let head = try shape("proj_out.weight", rank: 2)[0]
    var layers = 0
    while source.contains("blocks.\(layers).attn1.to_q.weight") { layers += 1 }
    let integer = { (value: Int) in JSONValue.integer(value) }
    let json: JSONValue = .object([
      "patch_size": .array(patch[2...].map(integer)), "num_attention_heads": integer(heads),
      "attention_head_dim": integer(dim / heads), "in_channels": integer(patch[1]),
      "out_channels": integer(head / volume),
      "text_dim": integer(try shape("condition_embedder.text_embedder.linear_1.weight", rank: 2)[1]),
      "freq_dim": integer(try shape("condition_embedder.time_embedder.linear_1.weight", rank: 2)[1]),
      "ffn_dim": integer(try shape("blocks.0.ffn.net.0.proj.weight", rank: 2)[0]),
      "num_layers": integer(layers),
      "cross_attn_norm": .bool(source.contains("blocks.0.norm2.weight")),
      "_class_name": .string("WanTransformer3DModel"), "qk_norm": .string("rms_norm_across_heads"),
    ])
    try self.init(json, file: source.name)
    if inChannels != outChannels {
      throw invalid(
        "patch_embedding.weight",
        "takes \(inChannels) channels for \(outChannels) of the latents, which marks an image-to-video or "
          + "control checkpoint; use a text-to-video one")
    }
  }
}
