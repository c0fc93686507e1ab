/// A tensor's name in an adapter file, taken apart into the layer's name and the part of the update it holds.
package struct LoRAKey: Equatable {
  /// What a tensor is to its layer.
  package enum Part: Int, CaseIterable {
    /// A of the pair, `[rank, in]`.
    case down
    /// B of the pair, `[out, rank]`.
    case up
    case alpha
    /// The bias of B, which strength, alpha and rank scale as they scale B.
    case upBias
    /// The whole change of a weight.
    case full
    /// The whole change of a bias.
    case bias

    /// The name of a missing half.
    var name: String {
      switch self {
      case .down: "lora_A"
      case .up: "lora_B"
      case .alpha: "alpha"
      case .upBias: "lora_B.bias"
      case .full: "diff"
      case .bias: "diff_b"
      }
    }
  }

  /// How a pair's halves are called.
  package enum Spelling: Equatable {
    /// `.lora_A.weight`, or without `.weight`
    case peft
    /// `.lora_A.default.weight`, or another adapter name
    case named
    /// `.lora_down.weight`
    case kohya
    /// `.lora.down.weight`, `.lora_linear_layer.down.weight`
    case diffusersOld
    /// `_lora.down.weight`
    case processor
    /// `.matrix_A.0`
    case matrix
    /// `unet:0:down`
    case numbered
  }

  /// The layer's name as the file spells it, prefixes included.
  package let stem: String
  package let part: Part
  /// Nil for parts that every spelling calls the same.
  package let spelling: Spelling?

  private init?(_ stem: some StringProtocol, _ part: Part, _ spelling: Spelling? = nil) {
    guard !stem.isEmpty else { return nil }
    self.stem = String(stem)
    self.part = part
    self.spelling = spelling
  }

  private static let endings: [(String, Part, Spelling?)] = [
    (".lora_A.weight", .down, .peft), (".lora_B.weight", .up, .peft), (".lora_B.bias", .upBias, .peft),
    (".lora_A", .down, .peft), (".lora_B", .up, .peft),
    (".lora_down.weight", .down, .kohya), (".lora_up.weight", .up, .kohya),
    (".lora.down.weight", .down, .diffusersOld), (".lora.up.weight", .up, .diffusersOld),
    (".lora_linear_layer.down.weight", .down, .diffusersOld),
    (".lora_linear_layer.up.weight", .up, .diffusersOld),
    ("_lora.down.weight", .down, .processor), ("_lora.up.weight", .up, .processor),
    (".alpha", .alpha, nil), (".diff", .full, nil), (".diff_b", .bias, nil), (".w_norm", .full, nil),
    (".b_norm", .bias, nil),
  ]

  /// Nil for a name that is no part of an update.
  package init?(_ key: String) {
    for (ending, part, spelling) in Self.endings where key.hasSuffix(ending) {
      self.init(key.dropLast(ending.count), part, spelling)
      return
    }
    let numbered = key.split(separator: ":", omittingEmptySubsequences: false)
    if numbered.count == 3, let part = ["down": Part.down, "up": .up, "alpha": .alpha][String(numbered[2])] {
      self.init("\(numbered[0]):\(numbered[1])", part, .numbered)
      return
    }
    let parts = key.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count >= 3 else { return nil }
    let (last, middle, outer) = (parts[parts.count - 1], parts[parts.count - 2], parts[parts.count - 3])
    // SAT numbers the factors of a fused layer; the number tells which of its layers is meant.
    if middle == "matrix_A" || middle == "matrix_B", Int(last) != nil {
      self.init(
        "\(parts.dropLast(2).joined(separator: ".")).\(last)", middle == "matrix_A" ? .down : .up, .matrix)
      return
    }
    guard outer == "lora_A" || outer == "lora_B" else { return nil }
    let stem = parts.dropLast(3).joined(separator: ".")
    switch last {
    case "weight": self.init(stem, outer == "lora_A" ? .down : .up, .named)
    case "bias" where outer == "lora_B": self.init(stem, .upBias, .named)
    default: return nil
    }
  }
}
