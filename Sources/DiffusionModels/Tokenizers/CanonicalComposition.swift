// The standard library has NFC behind this name only; Foundation, which wraps it, is not linked into the plugin.
@_spi(_Unicode) import Swift

/// The text in Unicode's normalization form C.
func canonicallyComposed(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
  text.allSatisfy { $0.value < 0x300 } ? text : Array(String(text)._nfc)
}
