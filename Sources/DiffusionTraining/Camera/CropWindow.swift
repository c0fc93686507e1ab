import Glibc

/// A window on a source picture: what the camera sees of it.
///
/// Measures are fractions of the base, the largest rectangle of the clip's proportions that the source holds: the
/// centre from the base's centre, the side against the base's. A positive turn of the window is clockwise.
package struct CropWindow: Sendable, Equatable {
  package var x: Float
  package var y: Float
  package var side: Float
  package var turn: Float

  package init(x: Float = 0, y: Float = 0, side: Float = 1, turn: Float = 0) {
    (self.x, self.y, self.side, self.turn) = (x, y, side, turn)
  }

  /// How the picture in this window has moved since it was seen through `first`, in pixels of a clip of this size.
  package func motion(since first: CropWindow, width: Int, height: Int) -> CameraMotion {
    let (dx, dy) = ((first.x - x) * Float(width) / side, (first.y - y) * Float(height) / side)
    let (c, s) = (cosf(-turn), sinf(-turn))
    return CameraMotion(
      tx: c * dx - s * dy, ty: s * dx + c * dy, logZoom: logf(first.side / side), roll: first.turn - turn)
  }
}

/// A camera move as the path of a crop window over a clip.
package struct CameraPath: Sendable, Equatable {
  /// How the window's side goes during a zoom.
  package enum ZoomLaw: Sendable {
    /// The side changes linearly in time.
    case linearSide
    /// The side's logarithm does, so that the picture grows by the same share in every frame.
    case linearLogarithm
  }

  package let move: CameraMove
  /// The window's side, or for a zoom the smaller of its two ends' sides.
  package let side: Float
  /// Where the window's travel starts and ends: its centre's x or y, its side, or its turn.
  package let start: Float
  package let end: Float
  package let zoomLaw: ZoomLaw

  private init(_ move: CameraMove, side: Float, from start: Float, to end: Float, _ law: ZoomLaw) {
    self.move = move
    self.side = side
    (self.start, self.end) = (start, end)
    zoomLaw = law
  }

  /// The eight moves of AnimateDiff's augmentation: `amount` is the share of the base that the window travels or that
  /// a zoom takes away, or the angle of a roll in radians.
  /// - Parameter rollSide: the largest side whose corners stay inside the source, from `SourceGeometry`.
  package static func table(_ move: CameraMove, amount: Float, rollSide: Float) -> CameraPath {
    switch move.axis {
    case .pan, .tilt:
      // The picture moves against the window.
      let half = move.sign * amount / 2
      return CameraPath(move, side: 1 - amount, from: half, to: -half, .linearSide)
    case .zoom:
      let (start, end) = move.sign > 0 ? (1, 1 - amount) : (1 - amount, 1)
      return CameraPath(move, side: 1 - amount, from: start, to: end, .linearSide)
    case .roll:
      return CameraPath(move, side: rollSide, from: 0, to: -move.sign * amount, .linearSide)
    }
  }

  /// A move whose picture travels `amplitude` of the axis's full scale at constant speed. The window's side is that of
  /// amplitude 1, so nothing but the motion tells amplitudes apart.
  /// - Parameters:
  ///   - amplitude: 0…1.
  ///   - aspect: width over height of the clip.
  package static func measured(_ move: CameraMove, amplitude: Float, aspect: Float, rollSide: Float)
    -> CameraPath
  {
    let full = move.axis.fullScale(height: 1)
    switch move.axis {
    case .pan, .tilt:
      let reach = move.axis == .pan ? full / aspect : full
      let side = 1 / (1 + reach)
      let half = move.sign * amplitude * reach * side / 2
      return CameraPath(move, side: side, from: half, to: -half, .linearLogarithm)
    case .zoom:
      let start = move.sign > 0 ? 1 : expf(-full)
      return CameraPath(
        move, side: expf(-full), from: start, to: start * expf(-move.sign * amplitude * full),
        .linearLogarithm)
    case .roll:
      return CameraPath(move, side: rollSide, from: 0, to: -move.sign * amplitude * full, .linearLogarithm)
    }
  }

  /// The window at time `u`, 0…1.
  package func window(_ u: Float) -> CropWindow {
    let value = start + (end - start) * u
    switch move.axis {
    case .pan: return CropWindow(x: value, side: side)
    case .tilt: return CropWindow(y: value, side: side)
    case .zoom:
      return CropWindow(side: zoomLaw == .linearSide ? value : start * expf(logf(end / start) * u))
    case .roll: return CropWindow(side: side, turn: value)
    }
  }

  /// The windows of a clip's frames.
  package func windows(frames: Int) -> [CropWindow] {
    (0..<frames).map { window(Float($0) / Float(max(1, frames - 1))) }
  }

  /// How the picture moves in a clip of this size.
  package func motions(frames: Int, width: Int, height: Int) -> [CameraMotion] {
    let windows = windows(frames: frames)
    return windows.map { $0.motion(since: windows[0], width: width, height: height) }
  }

  /// The amplitude that the camera estimator would find in a perfect picture: the slope over the clip in units of full
  /// scale, positive.
  package func amplitude(frames: Int, width: Int, height: Int) -> Float {
    CameraTrack(
      width: width, height: height, motions: motions(frames: frames, width: width, height: height),
      correlations: [], sprite: [], spriteArea: []
    ).amplitude(move)
  }
}

/// Which part of a source a clip can show.
package struct SourceGeometry: Sendable, Equatable {
  package let sourceWidth: Int
  package let sourceHeight: Int
  /// The base: the largest rectangle of the clip's proportions inside the source, in the source's pixels.
  package let baseWidth: Float
  package let baseHeight: Float

  package init(sourceWidth: Int, sourceHeight: Int, width: Int, height: Int) {
    (self.sourceWidth, self.sourceHeight) = (sourceWidth, sourceHeight)
    let scale = min(Float(sourceWidth) / Float(width), Float(sourceHeight) / Float(height))
    (baseWidth, baseHeight) = (Float(width) * scale, Float(height) * scale)
  }

  /// The largest side of a window that keeps its corners inside the source while it turns up to `angle`; at most
  /// 1 / √2.
  package func rollSide(_ angle: Float) -> Float {
    func widest(_ along: Float, _ across: Float) -> Float {
      abs(angle) < atan2f(across, along)
        ? along * cosf(angle) + across * abs(sinf(angle)) : hypotf(along, across)
    }
    return min(
      Float(0.5).squareRoot(), Float(sourceWidth) / widest(baseWidth, baseHeight),
      Float(sourceHeight) / widest(baseHeight, baseWidth))
  }
}
