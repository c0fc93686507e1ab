extension Tensor {
  /// Doubles height and width of pictures `[N, H, W, C]` by repeating pixels.
  public func upsampledNearest() -> Tensor {
    let (pictures, height, width, channels) = (shape[0], shape[1], shape[2], shape[3])
    let source = detached().contiguous()
    let result = Tensor(uninitialized: [pictures, height * 2, width * 2, channels])
    parallelFor(pictures * height) { row in
      let from = source.base + row * width * channels
      let to = result.base + row * 4 * width * channels
      for column in 0..<width {
        (to + column * 2 * channels).update(from: from + column * channels, count: channels)
        (to + (column * 2 + 1) * channels).update(from: from + column * channels, count: channels)
      }
      (to + 2 * width * channels).update(from: to, count: 2 * width * channels)
    }
    keepAlive(source)
    return result.recorded(repeating: self)
  }

  /// Pictures `[N, H, W, C]` at another size by repeating pixels: pixel `i` of `n` is pixel `⌊i * m / n⌋` of the `m` there
  /// are (torch's `nearest`).
  public func resizedNearest(height: Int, width: Int) -> Tensor {
    if height == 2 * shape[1], width == 2 * shape[2] { return upsampledNearest() }
    let (pictures, rows, columns, channels) = (shape[0], shape[1], shape[2], shape[3])
    let source = detached().contiguous()
    let result = Tensor(uninitialized: [pictures, height, width, channels])
    parallelFor(pictures * height) { line in
      let row = line / height * rows + line % height * rows / height
      for column in 0..<width {
        (result.base + (line * width + column) * channels).update(
          from: source.base + (row * columns + column * columns / width) * channels, count: channels)
      }
    }
    keepAlive(source)
    return result.recorded(repeating: self)
  }

  /// Extends pictures `[N, H, W, C]` downwards and to the right by repeating the last row and column.
  public func paddedByEdge(height: Int, width: Int) -> Tensor {
    requireNoTape("paddedByEdge")
    let (pictures, rows, columns, channels) = (shape[0], shape[1], shape[2], shape[3])
    precondition(height >= rows && width >= columns, "padding of \(shape) to \(height) x \(width)")
    if height == rows && width == columns { return self }
    let source = contiguous()
    let result = Tensor(uninitialized: [pictures, height, width, channels])
    parallelFor(pictures * height) { row in
      let line = row / height * rows + min(row % height, rows - 1)
      let from = source.base + line * columns * channels
      let to = result.base + row * width * channels
      to.update(from: from, count: columns * channels)
      for column in columns..<width {
        (to + column * channels).update(from: from + (columns - 1) * channels, count: channels)
      }
    }
    return result
  }
}
