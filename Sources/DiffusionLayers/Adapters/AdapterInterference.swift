import TensorCore

/// How much two or more adapters get into each other's way, layer by layer, from their weights alone.
///
/// Reference: LiON-LoRA (2507.05678), orthogonality of shallow layers; the measure is the cosine between updates,
/// `⟨dW_i, dW_j⟩ / (‖dW_i‖ ‖dW_j‖)`.
public struct AdapterInterference: Sendable, Equatable {
  /// One layer that at least two of the adapters change.
  public struct Layer: Sendable, Equatable {
    public let module: String
    /// The number in the module's path, as in `blocks.3`; nil outside numbered blocks.
    public let block: Int?
    /// ‖dW‖ of every adapter, 0 where it leaves the layer alone.
    public let norms: [Double]
    /// The largest norm over the smallest that is there.
    public let normRatio: Double
    /// The same under the compose mode `norm`.
    public let composedRatio: Double
    /// The mean of |cosine| over pairs of adapters.
    public let cosine: Double
  }

  /// The mean over the layers of one block.
  public struct Block: Sendable, Equatable {
    public let index: Int
    public let cosine: Double
    public let normRatio: Double
  }

  public let files: [String]
  public let layers: [Layer]
  /// Blocks in rising order.
  public let blocks: [Block]

  /// A mean |cosine| up to which a block counts as orthogonal.
  public static let threshold = 0.1

  /// Compares adapters for one model.
  /// - Throws: `LoRAError` for files that cannot be read or are for models of other widths.
  public init(_ adapters: [LoRAFile]) throws(LoRAError) {
    files = adapters.map(\.name)
    var updates: [String: [LayerUpdate]] = [:]
    var stated: [[String: Double]] = []
    for (index, file) in adapters.enumerated() {
      for layer in file.layers where layer.component == .denoiser {
        var update = try file.load(layer)
        update.adapterIndex = index
        if let first = updates[layer.module]?.first, let a = first.weight?.widths,
          let b = update.weight?.widths,
          a != b
        {
          throw .conversion(
            file: file.name,
            reason: "its update of '\(layer.module)' is \(b) and that of the files before it \(a) (out, in)")
        }
        updates[layer.module, default: []].append(update)
      }
      stated.append(try file.statedNorms())
    }
    AdapterFusion.fuse(&updates, roles: adapters.map { $0.role ?? "" }, stated: stated)
    layers = updates.filter { $0.value.count { $0.weight != nil } > 1 }
      .map { Layer($0.key, $0.value, count: adapters.count) }
      .sorted { ($0.block ?? -1, $0.module) < ($1.block ?? -1, $1.module) }
    var byBlock: [Int: [Layer]] = [:]
    for layer in layers { if let block = layer.block { byBlock[block, default: []].append(layer) } }
    blocks = byBlock.sorted { $0.key < $1.key }.map { index, layers in
      let count = Double(layers.count)
      return Block(
        index: index, cosine: layers.reduce(0) { $0 + $1.cosine } / count,
        normRatio: layers.map(\.normRatio).max() ?? 1)
    }
  }

  /// The number of blocks from the first on whose mean |cosine| stays within the threshold.
  public var orthogonalPrefix: Int { blocks.prefix { $0.cosine <= Self.threshold }.count }

  /// Spearman's correlation of |cosine| with depth; nil for fewer than three blocks or where all are alike.
  public var depthCorrelation: Double? {
    guard blocks.count > 2 else { return nil }
    let ranks = Self.ranks(blocks.map(\.cosine))
    let depth = (0..<blocks.count).map(Double.init)
    let mean = Double(blocks.count - 1) / 2
    var (xy, xx, yy) = (0.0, 0.0, 0.0)
    for (x, y) in zip(depth, ranks) {
      xy += (x - mean) * (y - mean)
      xx += (x - mean) * (x - mean)
      yy += (y - mean) * (y - mean)
    }
    return yy > 0 ? xy / (xx * yy).squareRoot() : nil
  }

  /// Ranks from 0 on; equal values share their mean rank.
  private static func ranks(_ values: [Double]) -> [Double] {
    values.map { value in
      Double(values.count { $0 < value }) + Double(values.count { $0 == value } - 1) / 2
    }
  }
}

extension AdapterInterference.Layer {
  fileprivate init(_ module: String, _ updates: [LayerUpdate], count: Int) {
    self.module = module
    block = module.split(separator: ".").lazy.compactMap { Int($0) }.first
    var norms = [Double](repeating: 0, count: count)
    var composed: [Double] = []
    for update in updates {
      guard let norm = update.weight?.norm else { continue }
      norms[update.adapterIndex] = norm
      if norm > 0 { composed.append(norm * Double(update.fusion?.normGain ?? 1)) }
    }
    self.norms = norms
    let present = norms.filter { $0 > 0 }
    normRatio = (present.max() ?? 1) / (present.min() ?? 1)
    composedRatio = (composed.max() ?? 1) / (composed.min() ?? 1)
    var cosines: [Double] = []
    for (index, a) in updates.enumerated() {
      for b in updates[(index + 1)...] {
        guard let first = a.weight, let second = b.weight else { continue }
        let size = norms[a.adapterIndex] * norms[b.adapterIndex]
        cosines.append(size > 0 ? min(1, abs(first.inner(second)) / size) : 0)
      }
    }
    cosine = cosines.isEmpty ? 0 : cosines.reduce(0, +) / Double(cosines.count)
  }
}

extension LayerUpdate.Change {
  /// `[out, in]`, or `[dim]` of a norm.
  var widths: [Int] {
    switch self {
    case .lowRank(let pair): [pair.up.shape[0], pair.down.shape[1]]
    case .full(let tensor): tensor.shape
    }
  }
}
