import TensorCore

/// The whole convolution over frames: `sum x[t + i - k + 1, y * stride + j - top, …] * w[i, j, …] + bias`.
func naiveConvolution(
  _ x: Tensor, _ weight: Tensor, _ bias: Tensor, stride: Int = 1, _ padding: ConvolutionPadding
) -> Tensor {
  let (frames, height, width, inputs) = (x.shape[0], x.shape[1], x.shape[2], x.shape[3])
  let (outputs, window, h, w) = (weight.shape[0], weight.shape[2], weight.shape[3], weight.shape[4])
  let rows = (height + padding.top + padding.bottom - h) / stride + 1
  let columns = (width + padding.left + padding.right - w) / stride + 1
  let (values, filters, offsets) = (x.array(), weight.array(), bias.array())
  var result: [Float] = []
  for frame in 0..<frames {
    for row in 0..<rows {
      for column in 0..<columns {
        for output in 0..<outputs {
          var sum = Double(offsets[output])
          for i in 0..<window where frame + i - window + 1 >= 0 {
            for j in 0..<h {
              for k in 0..<w {
                let (y, z) = (row * stride + j - padding.top, column * stride + k - padding.left)
                guard (0..<height).contains(y), (0..<width).contains(z) else { continue }
                let at = (((frame + i - window + 1) * height + y) * width + z) * inputs
                for input in 0..<inputs {
                  let filter = (((output * inputs + input) * window + i) * h + j) * w + k
                  sum += Double(values[at + input]) * Double(filters[filter])
                }
              }
            }
          }
          result.append(Float(sum))
        }
      }
    }
  }
  return Tensor(result, shape: [frames, rows, columns, outputs])
}
