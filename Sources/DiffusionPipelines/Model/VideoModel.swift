public import DiffusionLayers
import DiffusionModels
public import TensorCore

/// A video diffusion model ready to run: backbone, autoencoder, text encoder and scheduler, as
/// `model_index.json` names them, and the adapters beside the backbone.
///
/// An immutable value: `adapted(with:)` gives another model that shares all base weights.
public struct VideoModel: Sendable {
  public let info: ModelInfo
  public let adapters: [AdapterReport]
  let denoiser: any VideoBackbone
  /// The strength tokens of the adapters, nil for those whose strength multiplies.
  let controls: [ControlToken?]
  let codec: LatentCodec
  let text: TextConditioner
  let scheduler: ModelScheduler
  let coordinatePlanes: Bool
  let memoryBudget: UInt64
  /// The backbone's weights, from which other adapted models are built.
  let backbone: ResidentSource

  /// How clips that are longer than the denoiser takes are cut.
  var contextWindows: ContextWindows {
    let length = min(info.clipLength, denoiser.maxFrames ?? info.clipLength)
    return ContextWindows(length: length, overlap: min(max(info.overlap, length / 4), length - 1))
  }

  /// Loads a directory in diffusers' layout, Wan's own files, a Stable Diffusion checkpoint with a motion module, or a
  /// builtin model (`builtin:nano`).
  /// - Parameters:
  ///   - cancellation: polled between tensors.
  ///   - progress: told about each tensor.
  /// - Throws: `WeightsError`, `ConfigError`, `PipelineError`, or `Cancelled`.
  public static func load(
    _ path: String, options: LoadOptions = LoadOptions(), cancellation: Cancellation = Cancellation(),
    progress: @escaping (LoadProgress) -> Void = { _ in }
  ) throws -> VideoModel {
    try ModelLoader(path, options: options, cancellation: cancellation, progress: progress).load()
  }

  /// The backbone's tensors under diffusers' names, opened and not read, of any layout that `load` takes.
  public static func backbone(of path: String) throws -> any WeightSource {
    try ModelLoader(path).backboneFiles().1.source
  }

  /// The tensors that adapters of the model may change: those of the backbone and of a text encoder that is adapted
  /// with it.
  public static func adaptableLayers(of path: String) throws -> [LoRAComponent: any WeightSource] {
    try ModelLoader(path).parts().adaptable
  }

  /// This model with other adapters (all of them; none restores the base). Base weights are shared, nothing
  /// is merged.
  /// - Throws: `LoRAError` or `WeightsError` naming file and tensor.
  public func adapted(with requests: [AdapterRequest]) throws -> VideoModel {
    var matches: [LoRAMatch] = []
    var textMatches: [LoRAMatch] = []
    var reports: [AdapterReport] = []
    for request in requests {
      let file = try LoRAFile(path: request.path, alphaOverRank: request.alphaOverRank)
      let found = try file.match(against: text.adaptable([.denoiser: backbone]), strict: request.strict)
      guard var match = found[.denoiser] else { continue }
      if request.role != "auto" { match.role = request.role }
      reports.append(
        AdapterReport(
          path: request.path, role: match.role ?? "auto",
          dialect: match.report.dialect.name, rank: match.report.rank,
          effectiveScale: match.report.effectiveScale, matchedKeys: match.report.matchedKeys,
          totalKeys: match.report.totalKeys, unmatched: match.report.unmatched,
          notice: match.report.notice, trainedRange: match.control?.range,
          bytes: found.values.reduce(0) { $0 + $1.bytes }))
      if let control = match.control { try check(control, file: request.path) }
      matches.append(match)
      if let text = found[.textEncoder] { textMatches.append(text) }
    }
    let source = AdaptedSource(backbone, adapters: matches)
    let denoiser = try denoiser.rebuilt(from: Weights(source))
    try source.checkApplied()
    return VideoModel(
      info: info, adapters: reports, denoiser: denoiser, controls: matches.map(\.control),
      codec: codec, text: try text.adapted(with: textMatches), scheduler: scheduler,
      coordinatePlanes: coordinatePlanes, memoryBudget: memoryBudget, backbone: backbone)
  }

  /// Throws unless a strength token has the backbone's width and a bias for each of its blocks.
  private func check(_ control: ControlToken, file: String) throws(LoRAError) {
    guard let transformer = denoiser as? WanTransformer else {
      throw .control(file: file, reason: "models of the family \(info.family) take none")
    }
    let (width, blocks) = (transformer.config.dim, transformer.config.numLayers)
    guard control.width == width else {
      throw .control(file: file, reason: "it is \(control.width) wide and this model \(width)")
    }
    guard control.bias.count == 1 || control.bias.count == blocks else {
      throw .control(
        file: file, reason: "it has biases for \(control.bias.count) blocks and this model has \(blocks)")
    }
  }

  /// Bytes that a clip of this size needs: weights, adapters and the largest activations of its stages.
  public func predictedBytes(frames: Int, width: Int, height: Int) -> UInt64 {
    let (padWidth, padHeight) = (padded(width), padded(height))
    let (rows, columns) = (padHeight / codec.ratio, padWidth / codec.ratio)
    let latents = info.latentFrames(frames) * rows * columns
    let denoise =
      denoiser.activationFloats(
        batch: 2, frames: min(info.latentFrames(frames), denoiser.maxFrames ?? .max), rows: rows,
        columns: columns) + scratchFloats(latents: latents)
    let picture = codec.peakFloats(
      height: padHeight, width: padWidth,
      budget: codecBudget(frames: frames, width: width, height: height))
    let floats = max(denoise, picture) + 6 * latents * codec.channels + promptFloats
    var bytes = UInt64(4 * floats)
    if case .t5(let prompts) = text.encoder { bytes = max(bytes, prompts.peakBytes) }
    bytes += UInt64(adapters.reduce(0) { $0 + $1.bytes })
    return UInt64(info.weightBytes) + bytes + UInt64(4 * frames * width * height * 3)
  }

  /// What each thread widens of a matrix at a time, and activations at two bytes a number.
  private func scratchFloats(latents: Int) -> Int {
    let widened = 768 * 2880
    guard let config = (denoiser as? WanTransformer)?.config else { return EngineThreads.count * widened }
    let tokens = latents / config.patchSize.reduce(1, *)
    return EngineThreads.count * min(widened, config.dim * max(config.ffnDim, 6 * config.dim))
      + (info.precision == .int8 ? tokens * max(config.ffnDim, config.dim) : 0)
  }

  /// Keys and values of both prompts for all blocks, which stay while a stream does; adapters' parts beside them.
  private var promptFloats: Int {
    let parts = adapters.isEmpty ? 1 : 2 + adapters.count
    return 2 * denoiser.promptFloats(length: text.length) * parts
  }

  /// What a clip of this size is predicted to need, in words.
  public func memoryForecast(frames: Int, width: Int, height: Int) -> String {
    let needed = predictedBytes(frames: frames, width: width, height: height)
    let mebibytes = { (bytes: UInt64) in "\(PipelineError.mebibytes(bytes)) MiB" }
    let budget = memoryBudget > 0 ? "memory-budget \(mebibytes(memoryBudget))" : "no memory-budget"
    let isTiled =
      codec.peakFloats(height: padded(height), width: padded(width))
      > codecBudget(frames: frames, width: width, height: height)
    return "a clip of \(frames) frames \(width)x\(height) needs about \(mebibytes(needed)), of them "
      + "\(mebibytes(UInt64(info.weightBytes))) for weights (\(budget)\(isTiled ? ", autoencoder in tiles" : ""))"
  }

  /// Floats that the autoencoder may use for a clip of this size: what the memory budget leaves beside the
  /// weights and the clip.
  func codecBudget(frames: Int, width: Int, height: Int) -> Int {
    guard memoryBudget > 0 else { return .max }
    let clip = 8 * frames * padded(width) * padded(height) * 3
    let taken = UInt64(info.weightBytes) + UInt64(4 * promptFloats + clip)
    return memoryBudget > taken ? Int(min((memoryBudget - taken) / 4, 1 << 40)) : 0
  }

  /// Next multiple of the model's size unit.
  func padded(_ extent: Int) -> Int {
    (extent + info.sizeMultiple - 1) / info.sizeMultiple * info.sizeMultiple
  }

  /// Throws when a clip of this size would exceed the memory budget, or without one the machine's memory;
  /// nothing was allocated then.
  func checkBudget(frames: Int, width: Int, height: Int) throws(PipelineError) {
    let needed = predictedBytes(frames: frames, width: width, height: height)
    let what = "a clip of \(frames) frames \(width)x\(height)"
    if memoryBudget > 0 && needed > memoryBudget {
      throw .overBudget(needed: needed, budget: memoryBudget, what: what)
    }
    let physical = TensorMemory.physicalBytes
    if needed > physical { throw .overMemory(needed: needed, available: physical, what: what) }
  }

  /// Throws unless a clip can have this length (one the backbone takes) and size.
  func checkGeometry(frames: Int, width: Int, height: Int) throws(PipelineError) {
    guard frames <= 4096, info.isClipLength(frames) else {
      throw .option(
        name: "frames", value: "\(frames)",
        reason: frames > 4096 ? "must be at most 4096" : "must be \(info.clipLengthRule) with this model")
    }
    for (name, value) in [("width", width), ("height", height)] where !(8...16384).contains(value) {
      throw .option(name: name, value: "\(value)", reason: "must lie in 8…16384")
    }
  }
}
