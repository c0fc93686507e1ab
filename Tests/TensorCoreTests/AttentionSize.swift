import Testing

/// Batch, queries, keys, heads, floats of a head.
struct AttentionSize: Sendable, CustomTestStringConvertible {
  let b, q, k, h, d: Int
  var testDescription: String { "\(b)x\(q)x\(k)x\(h)x\(d)" }
}
