import ArgumentParser
import DiffusionLayers
import DiffusionPipelines

/// An adapter file and its strength over the clip.
struct AdapterArgument: Sendable {
  static let strengthRange: ClosedRange<Float> = -4...4

  let path: String
  var curve: StrengthCurve

  /// Reads `FILE=STRENGTH`; without `=` the strength is 1.
  static func constant(_ text: String) throws -> AdapterArgument {
    guard let (path, value) = split(text) else {
      return AdapterArgument(path: text, curve: StrengthCurve(constant: 1))
    }
    guard let strength = Float(value), strengthRange.contains(strength) else {
      throw ValidationError("the strength '\(value)' must be a number in -4…4.")
    }
    return AdapterArgument(path: path, curve: StrengthCurve(constant: strength))
  }

  /// Reads `FILE=f0:s0,f1:s1`.
  static func curve(_ text: String) throws -> AdapterArgument {
    guard let (path, value) = split(text) else {
      throw ValidationError("write FILE=frame:strength,frame:strength.")
    }
    do {
      return AdapterArgument(path: path, curve: try StrengthCurve(value, in: strengthRange))
    } catch {
      throw ValidationError("\(error).")
    }
  }

  private static func split(_ text: String) -> (path: String, value: String)? {
    guard let equals = text.lastIndex(of: "="), equals != text.startIndex else { return nil }
    return (String(text[..<equals]), String(text[text.index(after: equals)...]))
  }

  /// File name without folder and ending, as labels name it.
  var name: String {
    let file = path.split(separator: "/").last.map(String.init) ?? path
    return file.hasSuffix(".safetensors") ? String(file.dropLast(".safetensors".count)) : file
  }
}

/// `--lora`, `--lora-curve` and how strictly they are matched.
struct AdapterOptions: ParsableArguments {
  @Option(
    name: .customLong("lora"),
    help: ArgumentHelp(
      "Adapter file (or builtin:NAME) and its strength, -4…4; repeatable.", valueName: "FILE=S"),
    transform: AdapterArgument.constant)
  var constants: [AdapterArgument] = []

  @Option(
    name: .customLong("lora-curve"),
    help: ArgumentHelp(
      "Adapter file and its strength by frame index, linear in between; repeatable.",
      valueName: "FILE=f0:s0,f1:s1"),
    transform: AdapterArgument.curve)
  var curves: [AdapterArgument] = []

  @Flag(
    name: .customLong("lora-strict"), inversion: .prefixedNo,
    help: "Whether an adapter key that matches nothing in the model is an error.")
  var isStrict = true

  /// All adapters in the order of the options; a curve for a file that `--lora` names too replaces its strength.
  var adapters: [AdapterArgument] {
    var result = constants
    for curve in curves {
      if let index = result.firstIndex(where: { $0.path == curve.path }) {
        result[index].curve = curve.curve
      } else {
        result.append(curve)
      }
    }
    return result
  }

  var requests: [AdapterRequest] { adapters.map { AdapterRequest(path: $0.path, strict: isStrict) } }

  /// Says on stderr which strengths lie outside what an adapter was trained for, and what of a file was left out.
  func warn(_ reports: [AdapterReport]) {
    for (adapter, report) in zip(adapters, reports) {
      if let notice = report.notice { Console.error("videolora: \(notice)") }
      let strengths = adapter.curve.constant.map { [$0] } ?? adapter.curve.points.map(\.strength)
      if let warning = strengths.lazy.compactMap({ report.warning(strength: $0) }).first {
        Console.error("videolora: warning: \(warning)")
      }
    }
  }

  /// What labels say about the adapters: `strength` and `adapter` for one, `strengths` for several, as the curve's
  /// text where it changes.
  func label(into label: inout JSONObject) {
    let values = adapters.map { adapter -> JSONValue in
      if let constant = adapter.curve.constant { return .number(Double("\(constant)") ?? Double(constant)) }
      return .string(adapter.curve.points.map { "\($0.frame):\($0.strength)" }.joined(separator: ","))
    }
    if values.count == 1 {
      label["strength"] = values[0]
    } else if values.count > 1 {
      label["strengths"] = .array(values)
    }
    if !adapters.isEmpty { label["adapter"] = .string(adapters.map(\.name).joined(separator: "+")) }
  }
}
