import GstVideoLoRA
import Testing

/// The text form of an animated strength.
@Suite struct StrengthCurveTests {
  @Test func readsTimesAndValues() throws {
    let curve = try StrengthCurve("0:0, 2s:1, 2500ms : -0.3,5:4", range: -4...4)
    #expect(curve.points.map(\.time) == [0, 2_000_000_000, 2_500_000_000, 5_000_000_000])
    #expect(curve.points.map(\.value) == [0, 1, -0.3, 4])
    #expect(try StrengthCurve("", range: -4...4).points.isEmpty)
    #expect(try StrengthCurve("  ", range: -4...4).points.isEmpty)
  }

  @Test(arguments: [
    ("1", "time:value"), ("1:2:3", "time:value"), ("0:0,", "time:value"), ("x:1", "\"x\""),
    ("-1s:1", "\"-1s\""),
    ("1m:1", "\"1m\""), ("infs:1", "\"infs\""), ("1e300:1", "\"1e300\""), ("0:", "\"\""),
    ("0:nan", "\"nan\""),
    ("0:5", "-4"), ("1:0, 1s:1", "grow"), ("2:0, 1:1", "grow"),
  ])
  func saysWhatIsWrong(_ text: String, _ part: String) {
    do {
      _ = try StrengthCurve(text, range: -4...4)
      Issue.record("\(text) was accepted")
    } catch {
      #expect(error.description.contains(part), "\(error)")
    }
  }
}
