import TensorCore

/// The quantised matrices among the tensors of a model.
///
/// `<layer>.weight` of dtype I8 and shape `[out, in]` with numbers in -127…127, and `<layer>.weight_scale` of dtype F32
/// and shape `[out]`: the weight is the integer times its row's scale. The header's metadata says so under
/// `QuantizedMatrices.metadataKey`.
package struct QuantizedMatrices {
  package static let metadataKey = "videolora.quantization"
  package static let metadataValue =
    #"{"format":"int8","version":1,"weight":"<layer>.weight I8 [out, in] in -127..127","#
    + #""scale":"<layer>.weight_scale F32 [out]","value":"weight * scale of its row"}"#
  package static let scaleSuffix = "_scale"

  /// For every quantised matrix the name of its scales.
  let scales: [String: String]
  private let names: Set<String>

  /// Checks that every matrix of 8-bit integers has its scales.
  init(_ tensors: [(name: String, file: SafetensorsFile)]) throws(WeightsError) {
    let files = Dictionary(tensors.map { ($0.name, $0.file) }, uniquingKeysWith: { first, _ in first })
    var scales: [String: String] = [:]
    for (name, file) in tensors where name.hasSuffix(".weight") {
      guard let entry = file.entries[name], entry.dtype == .int8 else { continue }
      func failure(_ reason: String) -> WeightsError {
        .quantization(file: file.name, tensor: name, reason: reason)
      }
      let partner = name + Self.scaleSuffix
      guard let scale = files[partner]?.entries[partner] else {
        throw failure("has 8-bit integers and no scales '\(partner)' beside it")
      }
      guard Weight.fitsInt8(entry.shape) else {
        throw failure("of shape \(entry.shape) is no matrix with at most \(Weight.longestInt8Row) columns")
      }
      guard scale.dtype == .float32, scale.shape == [entry.shape[0]] else {
        throw failure(
          "needs scales of dtype F32 and shape [\(entry.shape[0])], and '\(partner)' has "
            + "\(scale.dtype.safetensorsName) and \(scale.shape)")
      }
      scales[name] = partner
    }
    self.scales = scales
    names = Set(scales.values)
  }

  func isScale(_ name: String) -> Bool { names.contains(name) }
}

extension SafetensorsFile {
  /// Names of the scales of quantised matrices in this file; empty in a file without any.
  package var quantizationScales: Set<String> {
    Set(
      names.compactMap { name in
        guard name.hasSuffix(".weight"), entries[name]?.dtype == .int8 else { return nil }
        let scales = name + QuantizedMatrices.scaleSuffix
        return entries[scales] == nil ? nil : scales
      })
  }
}
