import TensorCore

/// Square tiles that overlap, for pictures whose working set is larger than the memory at hand. The result differs
/// from that of the whole picture: a tile does not see what lies outside it.
public struct PictureTiling: Sendable, Equatable {
  /// Side of a tile in pixels.
  public let tile: Int
  /// Distance from one tile to the next in pixels; what they overlap is blended.
  public let stride: Int

  /// - Parameters: both multiples of the autoencoder's ratio of pixels to latents, `stride` at most `tile`.
  public init(tile: Int, stride: Int) {
    precondition(stride > 0 && stride <= tile, "tiles of \(tile) at a stride of \(stride)")
    self.tile = tile
    self.stride = stride
  }

  /// The largest tiles that fit into memory, a quarter of each overlapping the next; nil where whole pictures of
  /// this size do.
  ///
  /// Tiles are never smaller than 16 latents: smaller ones show their borders.
  /// - Parameters:
  ///   - ratio: pixels per latent along each side.
  ///   - fits: whether pictures of this height and width do.
  static func fitting(height: Int, width: Int, ratio: Int, fits: (_ height: Int, _ width: Int) -> Bool)
    -> PictureTiling?
  {
    if fits(height, width) { return nil }
    let unit = 4 * ratio
    var tile = 4 * unit
    while tile < max(height, width), fits(min(height, tile + unit), min(width, tile + unit)) { tile += unit }
    return PictureTiling(tile: tile, stride: tile / 4 * 3)
  }

  /// The same tiles counted in latents.
  func latent(ratio: Int) -> PictureTiling { PictureTiling(tile: tile / ratio, stride: stride / ratio) }

  /// Runs `body` on tiles of `[F, H, W, C]` and joins its results: each is mixed with its neighbour above, then
  /// with that to its left, linearly over the overlap, and cropped to the stride (`tiled_decode` of the
  /// reference).
  static func tiled(
    _ clip: Tensor, source: PictureTiling, target: PictureTiling, _ body: (Tensor) throws(Cancelled) -> Tensor
  ) throws(Cancelled) -> Tensor {
    let (height, width) = (clip.shape[1], clip.shape[2])
    let overlap = target.tile - target.stride
    var above: [Tensor] = []
    var rows: [Tensor] = []
    for top in Swift.stride(from: 0, to: height, by: source.stride) {
      var row: [Tensor] = []
      for left in Swift.stride(from: 0, to: width, by: source.stride) {
        let part = clip.narrow(1, from: top, length: min(source.tile, height - top))
          .narrow(2, from: left, length: min(source.tile, width - left)).contiguous()
        var tile = try body(part)
        if row.count < above.count { tile = tile.blended(from: above[row.count], axis: 1, over: overlap) }
        if let neighbour = row.last { tile = tile.blended(from: neighbour, axis: 2, over: overlap) }
        row.append(tile)
      }
      rows.append(
        Tensor.concatenated(
          row.map { $0.cropped(1, to: target.stride).cropped(2, to: target.stride) }, axis: 2))
      above = row
    }
    return Tensor.concatenated(rows, axis: 1)
  }
}

extension Tensor {
  /// This tensor with the first `extent` entries of `axis` mixed from the last ones of `other`, linearly.
  fileprivate func blended(from other: Tensor, axis: Int, over extent: Int) -> Tensor {
    let extent = min(extent, shape[axis], other.shape[axis])
    guard extent > 0 else { return self }
    var weightShape = [Int](repeating: 1, count: rank)
    weightShape[axis] = extent
    let own = Tensor((0..<extent).map { Float($0) / Float(extent) }, shape: weightShape)
    let mixed =
      other.narrow(axis, from: other.shape[axis] - extent, length: extent) * own.affine(-1, 1)
      + narrow(axis, from: 0, length: extent) * own
    return Tensor.concatenated(
      [mixed, narrow(axis, from: extent, length: shape[axis] - extent)], axis: axis)
  }

  fileprivate func cropped(_ axis: Int, to extent: Int) -> Tensor {
    narrow(axis, from: 0, length: min(extent, shape[axis]))
  }
}
