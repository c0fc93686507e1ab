import DiffusionLayers
import DiffusionPipelines
import DiffusionTraining
import TensorCore
import TestSupport
import Testing

/// The camera estimator against the judge kit's own, and against the truth.
@Suite struct CameraEstimatorTests {
  /// Clips of a group and the tracks measured on them.
  private static func tracks(_ group: String) throws -> [CameraTrack] {
    let file = try Fixture.safetensors("camera")
    let shape = try #require(file.entries[group + ".frames"]?.shape)
    let bytes = try file.bytes(group + ".frames")
    let size = shape[2] * shape[3] * 3
    return (0..<shape[0]).map { clip in
      CameraEstimator.track(
        (0..<shape[1]).map { frame in
          let start = (clip * shape[1] + frame) * size
          return Frame(width: shape[3], height: shape[2], pixels: Array(bytes[start..<(start + size)]))
        })
    }
  }

  @Test(arguments: ["mixed", "named", "noisy", "wide"])
  func agreesWithTheReference(_ group: String) throws {
    let file = try Fixture.safetensors("camera")
    let tracks = try Self.tracks(group)
    let (motions, ncc) = (try file[group + ".cam"].array(), try file[group + ".ncc"].array())
    let (sprites, objects) = (try file[group + ".sprite"].array(), try file[group + ".object"].array())
    let areas = try file[group + ".mass"].array()
    let amplitudes = try file[group + ".amplitudes"].array()
    let paths = try file[group + ".object_amplitude"].array()
    let classes = try file.integers(group + ".class")
    let names = [
      nil, "pan_right", "tilt_down", "zoom_in", "roll_cw", "pan_left", "tilt_up", "zoom_out", "roll_ccw",
    ]
    var worst: [String: Float] = [:]
    func note(_ what: String, _ difference: Float) {
      worst[what] = max(worst[what] ?? 0, difference.isFinite ? abs(difference) : .infinity)
    }
    for (clip, track) in tracks.enumerated() {
      let frames = track.motions.count
      for frame in 0..<frames {
        let at = clip * frames + frame
        for axis in 0..<4 {
          note(axis < 2 ? "pixels" : "log, rad", track.motions[frame].vector[axis] - motions[4 * at + axis])
        }
        note("correlation", track.correlations[frame] - ncc[at])
        note("area", (track.spriteArea[frame] - areas[at]) / max(1, areas[at]))
        #expect((track.sprite[frame] == nil) == (sprites[2 * at] == -1e6))
        for axis in 0..<2 {
          if let point = track.sprite[frame] { note("sprite", point[axis] - sprites[2 * at + axis]) }
          if let point = track.object[frame] { note("object", point[axis] - objects[2 * at + axis]) }
        }
      }
      for axis in CameraAxis.allCases {
        note("amplitude", track.amplitude(axis) - amplitudes[4 * clip + axis.rawValue])
      }
      note("path", track.objectAmplitude - paths[clip])
      #expect(track.move()?.rawValue == names[classes[clip]])
    }
    let limits: [String: Float] = [
      "pixels": 2e-4, "log, rad": 2e-5, "correlation": 2e-5, "area": 1e-4, "sprite": 1e-4, "object": 3e-4,
      "amplitude": 5e-5, "path": 1e-4,
    ]
    for (what, limit) in limits { #expect(worst[what] ?? .infinity < limit, "\(what): \(worst)") }
  }

  @Test func agreesWithTheTruth() throws {
    let file = try Fixture.safetensors("camera")
    let truth = try file["mixed.truth"].array()
    for axis in CameraAxis.allCases {
      var (found, expected): ([Float], [Float]) = ([], [])
      for (clip, track) in try Self.tracks("mixed").enumerated() {
        for (frame, motion) in track.motions.enumerated() where frame > 0 {
          found.append(motion.vector[axis.rawValue])
          expected.append(truth[4 * (clip * track.motions.count + frame) + axis.rawValue])
        }
      }
      #expect(coefficientOfDetermination(found, expected) > 0.995, "\(axis)")
    }
  }

  @Test func aClipOfTensorsIsTheSameClip() throws {
    let file = try Fixture.safetensors("camera")
    let shape = try #require(file.entries["mixed.frames"]?.shape)
    let bytes = Array(try file.bytes("mixed.frames")[..<shape[1...].reduce(1, *)])
    let clip = Tensor(bytes.map { Float($0) / 127.5 - 1 }, shape: Array(shape[1...])).permuted([3, 0, 1, 2])
    let expected = try Self.tracks("mixed")[0].motions
    #expect(CameraEstimator.track(clip).motions == expected)
  }

  @Test func oneFrameAndFlatPicturesGiveNoMotion() {
    let grey = Frame(width: 20, height: 16, pixels: [UInt8](repeating: 90, count: 960))
    #expect(CameraEstimator.track([grey]).amplitude(.pan) == 0)
    let track = CameraEstimator.track([grey, grey, grey])
    #expect(track.motions.allSatisfy { $0.vector.max() < 1e-3 } && track.move() == nil)
    #expect(track.backgroundSpeed < 0.2)
  }
}

/// R² of a measurement as it stands, without a fitted line.
func coefficientOfDetermination(_ found: [Float], _ expected: [Float]) -> Double {
  let mean = expected.reduce(0) { $0 + Double($1) } / Double(expected.count)
  let rest = zip(found, expected).reduce(0.0) {
    $0 + (Double($1.0) - Double($1.1)) * (Double($1.0) - Double($1.1))
  }
  let all = expected.reduce(0.0) { $0 + (Double($1) - mean) * (Double($1) - mean) }
  return 1 - rest / all
}
