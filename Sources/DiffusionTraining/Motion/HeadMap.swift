import DiffusionLayers
import DiffusionModels
package import DiffusionPipelines
import Synchronization
package import TensorCore

/// Which heads of a transformer's self-attentions look at other frames.
///
/// For every head the attention is compared with three patterns, that within the frame, that to the same place in all other
/// frames and that to its neighbourhood there, each by how much closer it is than attention that is spread evenly: a head is
/// temporal where one of the last two is larger than the first and at least 1.2.
///
/// Reference: Follow-Your-Motion (2506.05207), head classification; patterns, thresholds and the even attention they are
/// measured against are ours (they do not depend on the clip's extent).
package struct HeadMap: Sendable, Equatable {
  /// By block and head.
  package let temporal: [[Bool]]

  /// Query rows that are looked at in each frame.
  static let rows = 64
  /// What counts as looking anywhere at all.
  static let least: Float = 1.2

  package init(temporal: [[Bool]]) { self.temporal = temporal }

  /// Looks at the model's heads while it works on latents `[1, C, f, h, w]` at a quarter, half and three quarters of the
  /// noise.
  /// - Throws: `PipelineError` for a model without a transformer, or `Cancelled`.
  package init(of model: VideoModel, samples: [(latents: Tensor, context: Tensor)]) throws {
    let config = try model.transformerConfig
    let sums = Mutex(
      [HeadSums](repeating: HeadSums(heads: config.numAttentionHeads), count: config.numLayers))
    let backbone = try model.backbone(from: model.backboneSource)
    let objective = NoisingTarget(try model.trainingNoise(), shift: 1)
    for (index, sample) in samples.enumerated() {
      let grid = zip(sample.latents.shape[2...], config.patchSize).map { $0 / $1 }
      for (level, time) in [0.25, 0.5, 0.75].enumerated() {
        var random = TorchRandom(seed: UInt64(3 * index + level))
        let noisy = objective(sample.latents, noise: random.randn(sample.latents.shape), time: time)
        let chosen = HeadSums.places(grid[1] * grid[2], &random)
        var run = RunContext.plain
        run.attentionTap = { block, query, key in
          let found = HeadSums(query, key, grid: grid, places: chosen)
          sums.withLock { $0[block].add(found) }
        }
        _ = try model.prediction(
          backbone, noisy.input, timesteps: [noisy.timestep], context: sample.context, run)
      }
    }
    temporal = sums.withLock { $0.map(\.temporal) }
  }
}

/// What is added up of the heads of one block.
package struct HeadSums: Sendable {
  /// Attention within the frame, to the same place and its neighbourhood in other frames, and squared, by head.
  private var spatial: [Double]
  private var place: [Double]
  private var across: [Double]
  private var squares: [Double]
  /// Keys of the patterns and of all, over all rows.
  private var spatialKeys = 0
  private var placeKeys = 0
  private var acrossKeys = 0
  private var keys = 0

  init(heads: Int) {
    let zeros = [Double](repeating: 0, count: heads)
    (spatial, place, across, squares) = (zeros, zeros, zeros, zeros)
  }

  /// Up to `HeadMap.rows` different places of a frame, in order.
  package static func places(_ count: Int, _ random: inout TorchRandom) -> [Int] {
    guard count > HeadMap.rows else { return Array(0..<count) }
    var all = Array(0..<count)
    for index in 0..<HeadMap.rows { all.swapAt(index, index + random.below(count - index)) }
    return all.prefix(HeadMap.rows).sorted()
  }

  /// Of one call: `query` and `key` `[1, L, H, D]` with L = f h w tokens in the order of the grid.
  package init(_ query: Tensor, _ key: Tensor, grid: [Int], places: [Int]) {
    let heads = query.shape[2]
    self.init(heads: heads)
    let (frames, height, width) = (grid[0], grid[1], grid[2])
    let area = height * width
    for frame in 0..<frames {
      let chosen = Tensor.concatenated(
        places.map { query.narrow(1, from: frame * area + $0, length: 1) }, axis: 1)
      let weights = Tensor.attentionWeights(chosen, key).array()  // [1, H, R, L]
      let length = frames * area
      for (row, place) in places.enumerated() {
        let (y, x) = (place / width, place % width)
        let near = max(0, y - 1)...min(height - 1, y + 1)
        let beside = max(0, x - 1)...min(width - 1, x + 1)
        spatialKeys += area
        placeKeys += frames - 1
        acrossKeys += (frames - 1) * near.count * beside.count
        keys += length
        for head in 0..<heads {
          let line = weights[
            ((head * places.count + row) * length)..<((head * places.count + row + 1) * length)]
          let start = line.startIndex
          for index in line.indices { squares[head] += Double(line[index]) * Double(line[index]) }
          for index in 0..<area { spatial[head] += Double(line[start + frame * area + index]) }
          for other in 0..<frames where other != frame {
            self.place[head] += Double(line[start + other * area + place])
            for y in near {
              for x in beside { across[head] += Double(line[start + other * area + y * width + x]) }
            }
          }
        }
      }
    }
  }

  mutating func add(_ other: HeadSums) {
    for head in spatial.indices {
      spatial[head] += other.spatial[head]
      place[head] += other.place[head]
      across[head] += other.across[head]
      squares[head] += other.squares[head]
    }
    spatialKeys += other.spatialKeys
    placeKeys += other.placeKeys
    acrossKeys += other.acrossKeys
    keys += other.keys
  }

  /// Cosines with the patterns over those of even attention: within the frame, and the larger one of the others.
  package func lifts(_ head: Int) -> (spatial: Double, across: Double) {
    let norm = (Double(keys) / max(squares[head], .leastNormalMagnitude)).squareRoot()
    return (
      spatial[head] * norm / Double(max(1, spatialKeys)),
      max(
        place[head] * norm / Double(max(1, placeKeys)), across[head] * norm / Double(max(1, acrossKeys)))
    )
  }

  package var temporal: [Bool] {
    spatial.indices.map { head in
      let (own, other) = lifts(head)
      return other >= Double(HeadMap.least) && own < other
    }
  }
}
