import DiffusionPipelines
import DiffusionTraining
import Glibc
import Testing

/// Clips made by moving a window over a photo.
@Suite struct CameraAugmentationTests {
  /// A photo without a sprite: smooth waves of two colours.
  static func photo(_ seed: Int, width: Int = 96, height: Int = 96) -> Frame {
    var random = SampleRandom(seed: 77, index: seed)
    let waves = (0..<4).map { _ in
      let (angle, length) = (random.uniform() * 2 * .pi, Float(height) * (0.28 + 0.3 * random.uniform()))
      return (
        x: 2 * .pi / length * cosf(angle), y: 2 * .pi / length * sinf(angle), phase: random.uniform() * 6.28
      )
    }
    var pixels = [UInt8](repeating: 0, count: 3 * width * height)
    for y in 0..<height {
      for x in 0..<width {
        let tone = waves.reduce(Float(0)) { $0 + sinf($1.x * Float(x) + $1.y * Float(y) + $1.phase) } / 4
        for (c, weight) in [Float(70), 90, 60].enumerated() {
          pixels[3 * (y * width + x) + c] = UInt8(110 + weight * tone)
        }
      }
    }
    return Frame(width: width, height: height, pixels: pixels)
  }

  @Test(arguments: CameraMove.allCases)
  func measuredAmplitudeIsTheLabel(_ move: CameraMove) {
    let augmentation = CameraAugmentation(
      moves: [move], frames: 8, width: 48, height: 48, travel: .amplitudes(0...1, zeroShare: 0.1))
    var (labels, found): ([Float], [Float]) = ([], [])
    for index in 0..<16 {
      let clip = augmentation.clip([Self.photo(index)], index: index, seed: 5)
      let track = CameraEstimator.track(clip.frames)
      labels.append(clip.amplitude)
      found.append(track.amplitude(move))
      // What the window does is what the picture does, frame by frame.
      for (a, b) in zip(track.motions, clip.motions) {
        #expect(abs(a.tx - b.tx) < 0.35 && abs(a.ty - b.ty) < 0.35, "\(move) \(index)")
        #expect(abs(a.logZoom - b.logZoom) < 0.02 && abs(a.roll - b.roll) < 0.02, "\(move) \(index)")
      }
    }
    #expect((labels.max() ?? 0) > 0.7 && labels.allSatisfy { (0...1.0001).contains($0) })
    #expect(coefficientOfDetermination(found, labels) >= 0.995, "\(labels) \(found)")
  }

  @Test(arguments: CameraMove.allCases)
  func theTableMovesTheRightWay(_ move: CameraMove) {
    let augmentation = CameraAugmentation(moves: [move], frames: 8, width: 48, height: 32)
    var (labels, found): ([Float], [Float]) = ([], [])
    for index in 0..<12 {
      let clip = augmentation.clip([Self.photo(index, width: 120, height: 90)], index: index, seed: 9)
      let track = CameraEstimator.track(clip.frames)
      #expect(track.move() == move, "\(index)")
      labels.append(clip.amplitude)
      found.append(track.amplitude(move))
    }
    // Amounts differ by up to ±20 %.
    let (low, high) = (labels.min() ?? 0, labels.max() ?? 0)
    #expect(high / low > 1.15 && high / low < 1.75, "\(low)…\(high)")
    #expect(zip(labels, found).allSatisfy { abs($0 - $1) < 0.04 * $0 }, "\(labels) \(found)")
  }

  @Test func theTablesWindows() {
    let right = CameraPath.table(.panRight, amount: 0.3, rollSide: 0.7)
    #expect(abs(right.window(0).x + 0.15) < 1e-6 && abs(right.window(1).x - 0.15) < 1e-6)
    #expect(abs(right.window(0.5).side - 0.7) < 1e-6)
    let up = CameraPath.table(.tiltUp, amount: 0.2, rollSide: 0.7)
    // y0 = a (1 - u): the window moves up.
    #expect(abs(up.window(0).y - 0.1) < 1e-6 && abs(up.window(1).y + 0.1) < 1e-6)
    let inward = CameraPath.table(.zoomIn, amount: 0.4, rollSide: 0.7)
    #expect(inward.window(0).side == 1 && abs(inward.window(0.5).side - 0.8) < 1e-6)
    let outward = CameraPath.table(.zoomOut, amount: 0.4, rollSide: 0.7)
    #expect(abs(outward.window(0).side - 0.6) < 1e-6 && outward.window(1).side == 1)
    // A picture that turns clockwise is seen through a window that turns the other way.
    let roll = CameraPath.table(.rollClockwise, amount: 0.5, rollSide: 0.7)
    #expect(roll.window(1).turn == -0.5 && roll.motions(frames: 3, width: 8, height: 8)[2].roll == 0.5)
  }

  @Test func cornersStayInside() {
    for (width, height) in [(64, 48), (48, 64), (64, 64), (128, 32)] {
      let geometry = SourceGeometry(sourceWidth: 100, sourceHeight: 80, width: width, height: height)
      for angle in [Float(0.1), 0.35, 0.785] {
        let side = geometry.rollSide(angle)
        for step in 0...20 {
          let turn = angle * Float(step) / 20
          let (w, h) = (geometry.baseWidth * side / 2, geometry.baseHeight * side / 2)
          #expect(w * cosf(turn) + h * sinf(turn) <= 50.001 && w * sinf(turn) + h * cosf(turn) <= 40.001)
        }
      }
    }
  }

  @Test func aSeedGivesTheSameBytes() {
    var augmentation = CameraAugmentation(
      frames: 5, width: 24, height: 24, travel: .amplitudes(0...1, zeroShare: 0.1), sensorNoise: 1)
    let photo = [Self.photo(1)]
    let first = augmentation.clip(photo, index: 3, seed: 8)
    #expect(augmentation.clip(photo, index: 3, seed: 8).frames == first.frames)
    #expect(augmentation.clip(photo, index: 4, seed: 8).frames != first.frames)
    #expect(augmentation.clip(photo, index: 3, seed: 9).frames != first.frames)
    augmentation.travel = .amplitudes(0...0, zeroShare: 1)
    let still = augmentation.clip(photo, index: 0, seed: 1)
    #expect(still.amplitude == 0 && still.frames[0] != still.frames[1])
    augmentation.sensorNoise = 0
    let frozen = augmentation.clip(photo, index: 0, seed: 1)
    #expect(frozen.frames.allSatisfy { $0 == frozen.frames[0] })
  }

  @Test func subPixelShiftsAreExactOnSmoothPictures() {
    // A plane of slowly rising grey, cut half a pixel further to the right, rises by half a step.
    let ramp = Frame(
      width: 64, height: 8,
      pixels: (0..<8).flatMap { _ in (0..<64).flatMap { [UInt8](repeating: UInt8(2 * $0), count: 3) } })
    let geometry = SourceGeometry(sourceWidth: 64, sourceHeight: 8, width: 64, height: 8)
    let shifted = PictureSampler(ramp, scale: 1).picture(
      CropWindow(x: 0.5 / 64), of: geometry, width: 64, height: 8)
    for x in 4..<60 { #expect(shifted.pixels[3 * (2 * 64 + x)] == UInt8(2 * x + 1)) }
    #expect(PictureSampler(ramp, scale: 1).picture(CropWindow(), of: geometry, width: 64, height: 8) == ramp)
  }

  @Test func timeResampling() {
    let still = TimeResampling(count: 33, frames: 9, amplitude: 0, start: 0.5)
    #expect(still.indices == [Int](repeating: 16, count: 9) && still.amplitude == 0)
    let widest = TimeResampling(count: 33, frames: 9, amplitude: 1)
    #expect(widest.indices == (0..<9).map { 4 * $0 } && abs(widest.amplitude - 1) < 1e-6)
    for step in 0...20 {
      let wanted = Float(step) / 20
      let taken = TimeResampling(count: 40, frames: 9, amplitude: wanted, start: 1)
      #expect(abs(taken.amplitude - wanted) < 0.02 && taken.indices.allSatisfy { (0..<40).contains($0) })
    }
    // On a long pan the measured motion follows the label.
    let long = CameraAugmentation(
      moves: [.panLeft], frames: 41, width: 48, height: 48, travel: .amplitudes(1...1, zeroShare: 0)
    ).clip([Self.photo(3)], index: 0, seed: 2)
    var (labels, found): ([Float], [Float]) = ([], [])
    for index in 0..<10 {
      let clip = TimeResampling.clip(long.frames, frames: 8, index: index, seed: 4)
      labels.append(clip.amplitude)
      found.append(CameraEstimator.track(clip.frames).amplitude(.panLeft))
    }
    #expect(coefficientOfDetermination(found, labels) >= 0.995, "\(labels) \(found)")
  }
}
