public import DiffusionPipelines
import Glibc

/// A picture of a training's losses: every step faintly, a running mean over them, held-out losses as dots.
public struct LossPlot: Sendable {
  public var losses: [Float]
  public var heldOut: [(step: Int, loss: Float)]
  private static let size = (width: 720, height: 400)
  private var width: Int { Self.size.width }
  private var height: Int { Self.size.height }
  private var left: Int { 64 }
  private var top: Int { 16 }
  private var right: Int { width - 16 }
  private var bottom: Int { height - 36 }

  public init(losses: [Float], heldOut: [(step: Int, loss: Float)] = []) {
    self.losses = losses
    self.heldOut = heldOut
  }

  /// As an SVG document.
  public var svg: String {
    let scale = Scale(self)
    func points(_ values: [(Double, Double)]) -> String {
      values.map { "\(round2(scale.x($0.0))),\(round2(scale.y($0.1)))" }.joined(separator: " ")
    }
    var text = """
      <svg xmlns="http://www.w3.org/2000/svg" width="\(width)" height="\(height)" font-family="sans-serif"
      font-size="12">
      <rect width="100%" height="100%" fill="white"/>

      """
    for tick in scale.ticks {
      let y = round2(scale.y(tick))
      text += "<path d=\"M\(left) \(y)H\(right)\" stroke=\"#ddd\"/>"
      text += words(label(tick), (Double(left - 6), scale.y(tick) + 4), anchor: "end")
    }
    for (step, anchor) in [(1, "start"), (max(1, losses.count), "end")] {
      text += words("\(step)", (scale.x(Double(step)), Double(bottom + 18)), anchor: anchor)
    }
    for (series, style) in [(raw, "#b9cbe6"), (mean, "#1f5fae\" stroke-width=\"2")] {
      text += "<polyline fill=\"none\" stroke=\"\(style)\" points=\"\(points(thinned(series)))\"/>\n"
    }
    for point in heldOut {
      let (x, y) = (round2(scale.x(Double(point.step))), round2(scale.y(Double(point.loss))))
      text += "<circle cx=\"\(x)\" cy=\"\(y)\" r=\"3\" fill=\"#c0392b\"/>\n"
    }
    let legend = "step; loss of each batch, running mean, held-out losses"
    return text + words(legend, (Double(left), Double(bottom + 34)), anchor: "start") + "</svg>\n"
  }

  /// As a picture, with the range of the losses written by `label`.
  public var frame: Frame {
    let scale = Scale(self)
    var canvas = Canvas(width: width, height: height)
    for tick in scale.ticks {
      canvas.line((Double(left), scale.y(tick)), (Double(right), scale.y(tick)), (221, 221, 221))
      canvas.number(label(tick), endingAt: left - 6, centre: Int(scale.y(tick)))
    }
    canvas.number("\(max(1, losses.count))", endingAt: right, centre: bottom + 14)
    for (series, colour) in [(thinned(raw), (185, 203, 230)), (thinned(mean), (31, 95, 174))] {
      for (a, b) in zip(series, series.dropFirst()) {
        canvas.line((scale.x(a.0), scale.y(a.1)), (scale.x(b.0), scale.y(b.1)), colour)
      }
    }
    for point in heldOut {
      let (x, y) = (scale.x(Double(point.step)), scale.y(Double(point.loss)))
      for shift in -2...2 {
        canvas.line((x - 2, y + Double(shift)), (x + 2, y + Double(shift)), (192, 57, 43))
      }
    }
    return canvas.frame
  }

  private func words(_ text: String, _ place: (Double, Double), anchor: String) -> String {
    "<text x=\"\(round2(place.0))\" y=\"\(round2(place.1))\" text-anchor=\"\(anchor)\">\(text)</text>\n"
  }

  private var raw: [(Double, Double)] {
    losses.enumerated().map { (Double($0.offset + 1), Double($0.element)) }
  }

  /// Over about a twentieth of the steps.
  private var mean: [(Double, Double)] {
    let reach = max(1, losses.count / 40)
    var sums: [Double] = [0]
    for loss in losses { sums.append((sums.last ?? 0) + Double(loss)) }
    return losses.indices.map { index in
      let (from, to) = (max(0, index - reach), min(losses.count, index + reach + 1))
      return (Double(index + 1), (sums[to] - sums[from]) / Double(to - from))
    }
  }

  /// No more points than the picture can show.
  private func thinned(_ values: [(Double, Double)]) -> [(Double, Double)] {
    let every = max(1, values.count / 1200)
    return values.enumerated().compactMap { $0.offset % every == 0 ? $0.element : nil }
  }

  private func round2(_ value: Double) -> Double { (value * 100).rounded() / 100 }

  private func label(_ value: Double) -> String {
    let digits = value >= 100 ? 0 : value >= 1 ? 2 : 4
    let factor = pow(10, Double(digits))
    let whole = Int((value * factor).rounded())
    guard digits > 0 else { return "\(whole)" }
    let fraction = String(whole % Int(factor))
    return "\(whole / Int(factor))." + String(repeating: "0", count: digits - fraction.count) + fraction
  }

  /// From steps and losses to places in the picture.
  private struct Scale {
    let low: Double
    let high: Double
    let last: Double
    let plot: LossPlot

    init(_ plot: LossPlot) {
      self.plot = plot
      let sorted = plot.losses.sorted()
      // A few outliers must not flatten the rest.
      let top = sorted.isEmpty ? 1 : Double(sorted[min(sorted.count - 1, sorted.count * 99 / 100)])
      let held = plot.heldOut.map { Double($0.loss) }
      low = min(Double(sorted.first ?? 0), held.min() ?? .infinity)
      high = max(top, held.max() ?? 0, low + 1e-6)
      last = Double(max(2, plot.losses.count))
    }

    var ticks: [Double] { (0...4).map { low + (high - low) * Double($0) / 4 } }

    func x(_ step: Double) -> Double {
      Double(plot.left) + (step - 1) / (last - 1) * Double(plot.right - plot.left)
    }

    func y(_ loss: Double) -> Double {
      let share = min(1, max(0, (loss - low) / (high - low)))
      return Double(plot.bottom) - share * Double(plot.bottom - plot.top)
    }
  }
}
