import DiffusionLayers
import DiffusionModels
import DiffusionPipelines
import TensorCore

extension FuzzTarget {
  /// The JSON files of a model. The first line of an input names the file, the rest is its content; the
  /// others stay as they are. What loads must also make a picture.
  static let config = FuzzTarget(
    "config",
    words: jsonWords
      + texts(
        "\"_class_name\"", "\"WanTransformer3DModel\"", "\"patch_size\"", "[1,2,2]", "\"in_channels\"",
        "\"out_channels\"", "\"num_layers\"", "\"eps\"", "1e-45", "\"qk_norm\"", "\"image_dim\"", "\"shift\"",
        "\"flow_shift\"", "\"num_train_timesteps\"", "\"FlowMatchEulerDiscreteScheduler\"",
        "\"UniPCMultistepScheduler\"", "\"use_dynamic_shifting\"", "\"vocab_size\"", "\"hidden_size\"",
        "\"max_length\"", "\"latents_mean\"", "\"latents_std\"", "\"transformer\"", "\"vae\"",
        "\"text_encoder\"",
        "\"TagTable\"", "\"AutoencoderTiny\"", "\"base_dim\"", "\"dim_mult\"", "\"temperal_downsample\"",
        "\"z_dim\"", "\"model_type\"", "\"umt5\"", "\"d_model\"", "\"d_kv\"",
        "\"relative_attention_num_buckets\"", "\"feed_forward_proj\"", "\"coordinate_planes\"",
        "\"videolora\"", "\"clip_length\"",
        "\"overlap\"", "\"steps\"", "\"guidance_scale\"", "\"width\"", "[null,null]",
        "model_index.json\n", "transformer/config.json\n", "scheduler/scheduler_config.json\n"),
    fixedBytes: fixedConfigBytes
  ) { bytes in
    let end = bytes.firstIndex(of: 10) ?? bytes.count
    let name = String(decoding: bytes[..<end], as: UTF8.self)
    let content = Array(bytes[min(end + 1, bytes.count)...])
    // Configurations of larger models, read without one.
    switch name {
    case "vae/wan.json":
      let config = try AutoencoderKLWanConfig(try JSONValue.parse(content, file: name), file: name)
      return try require(config.spatialRatio <= 32, "a ratio of \(config.spatialRatio)")
    case "vae/kl.json":
      let config = try AutoencoderKLConfig(try JSONValue.parse(content, file: name), file: name)
      return try require(config.spatialRatio <= 32, "a ratio of \(config.spatialRatio)")
    case "text_encoder/clip.json":
      let config = try CLIPTextConfig(try JSONValue.parse(content, file: name), file: name)
      return try require(config.hiddenSize % config.numAttentionHeads == 0, "heads that do not fit")
    case "unet/image.json":
      _ = try UNetMotionConfig(image: try JSONValue.parse(content, file: name), file: name)
      return
    case "text_encoder/t5.json":
      _ = try T5Config(try JSONValue.parse(content, file: name), file: name)
      return
    case "transformer/wan.json":
      let config = try WanConfig(try JSONValue.parse(content, file: name), file: name)
      return try require(config.dim > 0, "a width of \(config.dim)")
    default: break
    }
    if name == "vae/config.json" { return try readAutoencoder(content) }
    guard let original = model[name] else {
      throw ConfigError(file: "input", key: "file", reason: "is unknown")
    }
    Scratch.write(content, to: "model/" + name)
    defer { Scratch.write(original, to: "model/" + name) }
    let model = try VideoModel.load(Scratch.folder + "/model")
    var stages = StageSeconds()
    let side = max(16, model.info.sizeMultiple)
    guard let count = (1...4).first(where: model.info.isClipLength), side <= 64 else { return }
    let frames = try TextToVideo.run(
      model, settings: SamplerSettings(steps: 2), frames: count, width: side, height: side, stages: &stages)
    try require(frames.count == count, "\(frames.count) frames")
  }

  /// The layers of the autoencoder, whose weights are no part of the input, are made anew for each one.
  private static let fixedConfigBytes: @Sendable ([UInt8]) -> Int = { input in
    input.starts(with: "vae/".utf8) ? 16 << 20 : FuzzRule.constant
  }

  private static func readAutoencoder(_ content: [UInt8]) throws {
    let json = try JSONValue.parse(content, file: "vae/config.json")
    let autoencoder = try AutoencoderTiny(
      encoder: Weights(autoencoderWeights[0]), decoder: Weights(autoencoderWeights[1]), config: json)
    let latent = Tensor.zeros([1, 1, 1, AutoencoderTiny.latentChannels])
    _ = autoencoder.normalized(autoencoder.denormalized(latent))
  }

  private static let autoencoderWeights: [ResidentSource] = {
    do {
      return try ["encoder", "decoder"].map { part in
        let file = try SafetensorsFile(path: "\(Repository.root)/models/nano/vae/taef2_\(part).safetensors")
        return try ResidentSource(loading: try SafetensorsSource(file))
      }
    } catch {
      fatalError("\(error)")
    }
  }()

  /// The files of the model that inputs are put into; they lie in the scratch folder.
  private static let model: [String: [UInt8]] = {
    let names = [
      "model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json",
      "text_encoder/model.safetensors", "text_encoder/vocab.json", "transformer/config.json",
      "transformer/diffusion_pytorch_model.safetensors",
    ]
    var files: [String: [UInt8]] = [:]
    for name in names {
      let bytes = Repository.read("Tests/Fixtures/tag_model/" + name)
      Scratch.write(bytes, to: "model/" + name)
      if name.hasSuffix(".json") { files[name] = bytes }
    }
    return files
  }()
}
