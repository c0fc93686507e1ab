import TensorCore

/// Writes the tensors of a source with some matrices as 8-bit integers (see QuantizedMatrices.swift). Every tensor is
/// read when it is written, so that a model larger than the memory can be quantised.
package struct QuantizedWriter {
  /// What was written.
  package struct Summary: Sendable, Equatable {
    package var matrices = 0
    package var tensors = 0
    /// Bytes of all tensors in the file.
    package var bytes = 0
  }

  /// - Parameters:
  ///   - selects: whether a matrix of this name and shape is quantised. The other tensors keep their numbers: matrices
  ///     and filters of bf16 and f16 at two bytes, the rest as f32.
  ///   - progress: told the tensors done before each; what it throws ends the writing.
  package static func write(
    _ source: any WeightSource, to path: String, selects: (String, [Int]) -> Bool,
    progress: @escaping (_ done: Int, _ total: Int) throws(WeightsError) -> Void
  ) throws(WeightsError) -> Summary {
    var writer = SafetensorsWriter(metadata: [
      ("format", "pt"), (QuantizedMatrices.metadataKey, QuantizedMatrices.metadataValue),
    ])
    var summary = Summary()
    let counter = Counter()
    // The scales are computed when they are written, which is before their matrices.
    let total = source.names.count
    func add(
      _ name: String, _ format: DType, _ shape: [Int],
      _ write: @escaping (Weight, inout AtomicFile) throws(WeightsError) -> Void
    ) {
      summary.tensors += 1
      summary.bytes += shape.reduce(format.byteSize, *)
      let tensor =
        name.hasSuffix(".weight" + QuantizedMatrices.scaleSuffix)
        ? String(name.dropLast(QuantizedMatrices.scaleSuffix.utf8.count)) : name
      writer.add(name, dtype: format, shape: shape) { file throws(WeightsError) in
        if tensor == name {
          try progress(counter.done, total)
          counter.done += 1
        }
        try write(try source.weight(tensor, shape: source.shape(of: tensor) ?? []), &file)
      }
    }
    for name in source.names {
      let shape = source.shape(of: name) ?? []
      if shape.count == 2, selects(name, shape) {
        summary.matrices += 1
        add(name + QuantizedMatrices.scaleSuffix, .float32, [shape[0]]) { weight, file throws(WeightsError) in
          try Self.write(
            weight.converted(to: .int8).withInt8 { _, scales in scales.array() } ?? [], to: &file)
        }
        add(name, .int8, shape) { weight, file throws(WeightsError) in
          try file.write(
            weight.converted(to: .int8).withInt8 { bytes, _ in Array(bytes.bindMemory(to: UInt8.self)) } ?? []
          )
        }
      } else if [DType.bfloat16, .float16].contains(source.format(of: name)) {
        add(name, source.format(of: name), shape) { weight, file throws(WeightsError) in
          try file.write(weight.withHalves { Array($0.bindMemory(to: UInt8.self)) } ?? [])
        }
      } else {
        add(name, .float32, shape) { weight, file throws(WeightsError) in
          try Self.write(weight.floats().array(), to: &file)
        }
      }
    }
    try writer.write(to: path)
    return summary
  }

  private static func write(_ floats: [Float], to file: inout AtomicFile) throws(WeightsError) {
    var failure: WeightsError?
    floats.withUnsafeBytes { raw in
      do throws(WeightsError) { try file.write(raw) } catch { failure = error }
    }
    if let failure { throw failure }
  }

  private final class Counter {
    var done = 0
  }
}
