import Glibc

/// Motion of the picture between frame 0 and a later one: a point `p` of frame 0, in pixels from the centre with x
/// to the right and y down, is seen at `exp(logZoom) R(roll) p + (tx, ty)`.
package struct CameraMotion: Sendable, Equatable {
  /// Pixels to the right.
  package var tx: Float = 0
  /// Pixels down.
  package var ty: Float = 0
  /// Logarithm of the picture's growth.
  package var logZoom: Float = 0
  /// Radians; positive turns the picture clockwise.
  package var roll: Float = 0

  package init() {}

  package init(tx: Float, ty: Float, logZoom: Float, roll: Float) {
    (self.tx, self.ty, self.logZoom, self.roll) = (tx, ty, logZoom, roll)
  }

  /// tx, ty, log-zoom, roll.
  package var vector: SIMD4<Float> {
    get { SIMD4(tx, ty, logZoom, roll) }
    set { (tx, ty, logZoom, roll) = (newValue[0], newValue[1], newValue[2], newValue[3]) }
  }

  package init(_ vector: SIMD4<Float>) { self.vector = vector }

  /// Where a point of the later frame was in frame 0.
  package func undone(_ point: SIMD2<Float>) -> SIMD2<Float> {
    let (dx, dy) = (point.x - tx, point.y - ty)
    let (s, c, r) = (expf(-logZoom), cosf(roll), sinf(roll))
    return SIMD2(s * (c * dx + r * dy), s * (-r * dx + c * dy))
  }
}

/// The four ways in which a picture can move as a whole.
package enum CameraAxis: Int, Sendable, CaseIterable {
  case pan, tilt, zoom, roll

  /// Motion over a whole clip that counts as amplitude 1: a quarter of the height, log-zoom 0.35, or 0.35 rad.
  package func fullScale(height: Int) -> Float {
    switch self {
    case .pan, .tilt: 0.25 * Float(height)
    case .zoom, .roll: 0.35
    }
  }
}

/// A camera move along one axis, named for what the camera does: panning left moves the picture to the right, tilting
/// up moves it down. For rolls the picture's own turn gives the name.
package enum CameraMove: String, Sendable, CaseIterable {
  case panLeft = "pan_left"
  case panRight = "pan_right"
  case tiltUp = "tilt_up"
  case tiltDown = "tilt_down"
  case zoomIn = "zoom_in"
  case zoomOut = "zoom_out"
  case rollClockwise = "roll_cw"
  case rollCounterclockwise = "roll_ccw"

  package var axis: CameraAxis {
    switch self {
    case .panLeft, .panRight: .pan
    case .tiltUp, .tiltDown: .tilt
    case .zoomIn, .zoomOut: .zoom
    case .rollClockwise, .rollCounterclockwise: .roll
    }
  }

  /// The sign of the picture's motion along the axis.
  package var sign: Float {
    switch self {
    case .panLeft, .tiltUp, .zoomIn, .rollClockwise: 1
    case .panRight, .tiltDown, .zoomOut, .rollCounterclockwise: -1
    }
  }

  package init(axis: CameraAxis, isPositive: Bool) {
    self =
      switch axis {
      case .pan: isPositive ? .panLeft : .panRight
      case .tilt: isPositive ? .tiltUp : .tiltDown
      case .zoom: isPositive ? .zoomIn : .zoomOut
      case .roll: isPositive ? .rollClockwise : .rollCounterclockwise
      }
  }

  /// The same path backwards.
  package var opposite: CameraMove { CameraMove(axis: axis, isPositive: sign < 0) }
}
