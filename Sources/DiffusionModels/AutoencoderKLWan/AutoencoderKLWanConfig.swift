public import DiffusionLayers

/// Shape of Wan 2.1's autoencoder: the keys of `vae/config.json` (diffusers' `AutoencoderKLWan`).
public struct AutoencoderKLWanConfig: Sendable, Equatable {
  /// Channels of the encoder at full resolution; of the decoder where they differ.
  public var baseDim: Int
  public var decoderBaseDim: Int
  /// Channels of a latent.
  public var zDim: Int
  /// Channels of each level as multiples of `baseDim`, full resolution first.
  public var dimMult: [Int]
  public var numResBlocks: Int
  /// For each step down whether it halves the frame rate too (diffusers spells it so).
  public var temperalDownsample: [Bool]
  /// Mean and standard deviation per channel that bring latents to zero mean and unit variance.
  public var latentsMean: [Float]
  public var latentsStd: [Float]

  /// Pixels per latent along each side.
  public var spatialRatio: Int { 1 << (dimMult.count - 1) }
  /// Frames per latent frame after the first.
  public var temporalRatio: Int { 1 << temperalDownsample.filter { $0 }.count }

  /// Channels of the encoder's levels, full resolution first.
  var encoderDims: [Int] { dimMult.map { $0 * baseDim } }
  /// Channels of the decoder's levels, full resolution first.
  var decoderDims: [Int] { dimMult.map { $0 * decoderBaseDim } }

  /// Reads and checks a parsed `config.json`. Keys that are absent take diffusers' defaults, the values of Wan
  /// 2.1.
  /// - Throws: `ConfigError` naming the key that is out of range or not supported.
  public init(_ json: JSONValue, file: String) throws(ConfigError) {
    let config = try ConfigReader(json, file: file)
    try config.expect("_class_name", "AutoencoderKLWan", allowMissing: true)
    baseDim = try config.integer("base_dim", in: 1...1024, default: 96)
    decoderBaseDim = try config.integer("decoder_base_dim", in: 1...1024, default: baseDim)
    zDim = try config.integer("z_dim", in: 1...256, default: 16)
    dimMult = try config.list("dim_mult", counts: 1...6, of: "whole numbers from 1 to 64", [1, 2, 4, 4]) {
      $0.int.flatMap { (1...64).contains($0) ? $0 : nil }
    }
    numResBlocks = try config.integer("num_res_blocks", in: 1...16, default: 2)
    let steps = dimMult.count - 1
    temperalDownsample = try config.list(
      "temperal_downsample", counts: steps...steps, of: "true or false, one for each step between levels",
      [false, true, true]
    ) { $0.bool }
    latentsMean = Self.mean
    latentsStd = Self.std
    latentsMean = try config.statistics("latents_mean", count: zDim, Self.mean)
    latentsStd = try config.statistics("latents_std", count: zDim, Self.std)
    guard latentsStd.allSatisfy({ $0 > 0 }) else { throw config.invalid("latents_std", "must be positive") }
    // Every step up halves the channels.
    guard decoderDims.dropFirst().allSatisfy({ $0 > 1 }) else {
      throw config.invalid("decoder_base_dim", "is too small: \(decoderDims) channels cannot be halved")
    }
    try refuseVariants(config)
  }

  /// Refuses what other autoencoders of the class have and this code does not.
  private func refuseVariants(_ config: ConfigReader) throws(ConfigError) {
    if try config.bool("is_residual", default: false) {
      throw config.invalid(
        "is_residual", "is true: Wan 2.2's residual autoencoder is not supported; use one of Wan 2.1")
    }
    if try config.integer("patch_size", in: 1...64, default: 1) != 1 {
      throw config.invalid("patch_size", "marks Wan 2.2's autoencoder, which is not supported; use Wan 2.1's")
    }
    guard config.isNull("attn_scales") || config.object["attn_scales"]?.array?.isEmpty == true else {
      throw config.invalid("attn_scales", "must be empty: attention outside the middle is not supported")
    }
    for key in ["in_channels", "out_channels"] {
      let channels = try config.integer(key, in: 1...4096, default: 3)
      if channels != 3 {
        throw config.invalid(key, "is \(channels); only pictures of 3 channels are supported")
      }
    }
    for (key, ratio) in [("scale_factor_spatial", spatialRatio), ("scale_factor_temporal", temporalRatio)] {
      let stated = try config.integer(key, in: 1...4096, default: ratio)
      if stated != ratio { throw config.invalid(key, "is \(stated), and the levels make it \(ratio)") }
    }
  }

  /// Statistics of Wan 2.1's latents, which its checkpoints in the original naming do not carry.
  static let mean: [Float] = [
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134, -0.0715, 0.5517, -0.3632,
    -0.1922, -0.9497, 0.2503, -0.2921,
  ]
  static let std: [Float] = [
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526, 2.8652, 1.5579, 1.6382,
    1.1253, 2.8251, 1.9160,
  ]
}

extension ConfigReader {
  /// An array of `counts` values that `read` accepts; `fallback` where the key is absent.
  fileprivate func list<Value>(
    _ key: String, counts: ClosedRange<Int>, of what: String, _ fallback: [Value],
    _ read: (JSONValue) -> Value?
  ) throws(ConfigError) -> [Value] {
    if isNull(key), counts.contains(fallback.count) { return fallback }
    let found = object[key]?.array ?? []
    let values = found.compactMap(read)
    guard object[key]?.array != nil, counts.contains(found.count), values.count == found.count else {
      let number =
        counts.lowerBound == counts.upperBound
        ? "\(counts.lowerBound)" : "\(counts.lowerBound) to \(counts.upperBound)"
      throw invalid(key, "must be \(number) of: \(what)")
    }
    return values
  }

  /// One number per latent channel; Wan 2.1's where the key is absent and there are as many channels.
  fileprivate func statistics(_ key: String, count: Int, _ fallback: [Float]) throws(ConfigError) -> [Float] {
    if isNull(key), count == fallback.count { return fallback }
    return try numbers(key, count: count).map(Float.init)
  }
}
