public import TensorCore

/// An adapter's strength as a token that video tokens can look at: `c(s) = e0 + s e1 (+ s² e2 + s³ e3)`.
///
/// Unless its style says otherwise, the low-rank update of such an adapter acts at its full size whenever the strength
/// is not 0 over a whole clip; how much of the motion there is, the token says.
///
/// Reference: LiON-LoRA (2507.05678), controllable token; the parametrisation is ours. In a file: `control.e0`…`e3`,
/// `[width]` each, and `control.bias`, one number or one for each block.
public struct ControlToken: Sendable {
  /// e0, e1, …, `[K, width]`.
  public let coefficients: Tensor
  /// What is added to the logits of the token's key, `[blocks]`, or `[1]` for one number everywhere.
  public let bias: Tensor
  /// The strengths that training has seen.
  public let range: ClosedRange<Float>
  /// Values of s for evenly spaced strengths over `range`, rising: what to ask of the token for a motion of that
  /// strength. Nil for the token as it is.
  public let calibration: [Float]?
  public let style: ControlStyle

  /// - Parameters:
  ///   - coefficients: `[K, width]`, K in 1…4.
  ///   - bias: `[1]` or `[blocks]`.
  public init(
    coefficients: Tensor, bias: Tensor, range: ClosedRange<Float> = 0...1, calibration: [Float]? = nil,
    style: ControlStyle = ControlStyle()
  ) {
    precondition(
      coefficients.rank == 2 && (1...4).contains(coefficients.shape[0]) && bias.rank == 1,
      "control token of \(coefficients.shape) and \(bias.shape)")
    self.coefficients = coefficients
    self.bias = bias
    self.range = range
    self.calibration = calibration
    self.style = style
  }

  /// The width of the model that the token is made for.
  public var width: Int { coefficients.shape[1] }

  /// The logit bias that a new token starts with: its key takes next to no share of the attention.
  public static let initialBias: Float = -4

  /// A strength brought into the trained range, and there to the s that gives a motion of that strength.
  public func position(_ strength: Float) -> Float {
    let clamped = max(range.lowerBound, min(range.upperBound, strength))
    guard let calibration, calibration.count > 1, range.upperBound > range.lowerBound else { return clamped }
    let place =
      (clamped - range.lowerBound) / (range.upperBound - range.lowerBound) * Float(calibration.count - 1)
    let left = min(calibration.count - 2, Int(place))
    return calibration[left] + (place - Float(left)) * (calibration[left + 1] - calibration[left])
  }

  /// The tokens for values of s: `[count, width]`.
  public func tokens(_ positions: [Float]) -> Tensor {
    let powers = positions.flatMap { s in
      (0..<coefficients.shape[0]).map { k in (0..<k).reduce(Float(1)) { power, _ in power * s } }
    }
    let matrix = Tensor(powers, shape: [positions.count, coefficients.shape[0]])
    return Tensor.linear(matrix, weight: coefficients.transposed)
  }

  /// The token's tensors under their names in files.
  public var tensors: [(name: String, tensor: Tensor)] {
    (0..<coefficients.shape[0]).map { ("control.e\($0)", coefficients.select(0, $0)) } + [
      ("control.bias", bias)
    ]
  }

  /// Adds the token's tensors to a file.
  public func add(to writer: inout SafetensorsWriter) {
    for (name, tensor) in tensors { writer.add(name, tensor) }
  }
}

extension LoRAFile {
  /// Names of a token's tensors.
  static let controlNames = (0..<4).map { "control.e\($0)" } + ["control.bias"]

  /// The strength token of a file that has one.
  /// - Throws: `LoRAError.control` for parts that are missing or do not fit each other.
  public func controlToken() throws(LoRAError) -> ControlToken? {
    guard !controlKeys.isEmpty else { return nil }
    var rows: [Float] = []
    var width = 0
    for k in 0..<4 {
      guard let entry = tensors.entries["control.e\(k)"] else {
        guard k < 4, controlKeys.allSatisfy({ $0 == "control.bias" || $0 < "control.e\(k)" }) else {
          throw .control(file: name, reason: "control.e\(k) is missing")
        }
        break
      }
      if k == 0 { width = entry.count }
      guard entry.shape.count == 1, entry.count == width, width > 0 else {
        throw .control(file: name, reason: "control.e\(k) is \(entry.shape), not [\(width)]")
      }
      rows += try floats("control.e\(k)")
    }
    guard width > 0, rows.count >= 2 * width else {
      throw .control(file: name, reason: "a token needs control.e0 and control.e1")
    }
    guard let bias = tensors.entries["control.bias"], bias.shape.count <= 1, (1...4096).contains(bias.count)
    else { throw .control(file: name, reason: "control.bias must be one number or one for each block") }
    let header = try header()
    return ControlToken(
      coefficients: Tensor(rows, shape: [rows.count / width, width]),
      bias: Tensor(try floats("control.bias"), shape: [bias.count]), range: header?.strengthRange ?? 0...1,
      calibration: header?.calibration, style: header?.control ?? ControlStyle())
  }

  private func floats(_ tensor: String) throws(LoRAError) -> [Float] {
    do { return try tensors.load(tensor).array() } catch { throw .file(error) }
  }
}
