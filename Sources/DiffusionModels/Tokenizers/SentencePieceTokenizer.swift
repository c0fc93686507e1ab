import CSentencePiece
public import DiffusionLayers

/// Text to token ids with a SentencePiece unigram model, as T5 and UMT5 use it (transformers' `T5Tokenizer`).
///
/// Characters outside the vocabulary become bytes where the model file has byte pieces, and `<unk>` where it
/// has none. Special tokens written out in the text (`</s>`, `<extra_id_3>`) become their ids.
public struct SentencePieceTokenizer: Sendable {
  /// Ids below this number can occur: pieces of the file and the sentinels above them.
  public let vocabularySize: Int
  /// The end-of-sequence token, which every encoded text ends with.
  public let endOfSequence: Int
  private let model: LoadedModel
  private let specialTokens: [(text: [UInt8], id: Int)]
  private let file: String

  /// The most bytes a `spiece.model` can have; UMT5's has 5 MiB.
  public static let sizeLimit = 64 << 20

  /// - Parameters:
  ///   - bytes: the content of a `spiece.model`.
  ///   - sentinels: number of `<extra_id_N>` tokens above the pieces, the last one first.
  ///   - file: name for messages.
  /// - Throws: `ConfigError` when the bytes are not such a model. Nothing in them can crash the program.
  public init(_ bytes: [UInt8], sentinels: Int, file: String) throws(ConfigError) {
    func refused(_ reason: String) -> ConfigError {
      ConfigError(
        file: file, key: "spiece.model",
        reason: "cannot be used: \(reason); take the file of the model's own tokenizer folder")
    }
    guard bytes.count <= Self.sizeLimit else { throw refused("it has more than \(Self.sizeLimit >> 20) MiB") }
    let checked: SentencePieceModelFile
    do { checked = try SentencePieceModelFile(bytes) } catch { throw refused(error.reason) }
    let model: LoadedModel
    do { model = try LoadedModel(bytes) } catch { throw refused(error.reason) }
    endOfSequence = Int(csp_eos_id(model.handle))
    guard endOfSequence >= 0, csp_piece_count(model.handle) == checked.pieceCount else {
      throw refused("it has no end-of-sequence piece")
    }
    guard (0...10_000).contains(sentinels) else { throw refused("it cannot have \(sentinels) sentinels") }
    vocabularySize = checked.pieceCount + sentinels
    specialTokens =
      checked.specialPieces.map { (Array($0.text.utf8), $0.id) }
      + (0..<sentinels).map { [vocabularySize] in (Array("<extra_id_\($0)>".utf8), vocabularySize - 1 - $0) }
    self.model = model
    self.file = file
  }

  /// The tokenizer folder of a model: `spiece.model`, and the number of sentinels from `tokenizer_config.json`.
  public init(_ directory: ModelDirectory, component: String = "tokenizer") throws {
    let name = component + "/spiece.model"
    guard directory.exists(name) else {
      throw ConfigError(
        file: directory.location(of: component), key: "spiece.model",
        reason: directory.exists(component + "/tokenizer.json")
          ? "is missing, and tokenizer.json alone cannot be used here; copy spiece.model of the same tokenizer "
            + "(for Wan: google/umt5-xxl) beside it"
          : "is missing; download the model again, or copy spiece.model of its tokenizer there")
    }
    let config = component + "/tokenizer_config.json"
    let sentinels = directory.exists(config) ? Self.sentinels(try directory.json(config)) : nil
    // 100 is T5Tokenizer's own default.
    try self.init(try directory.read(name), sentinels: sentinels ?? 100, file: directory.location(of: name))
  }

  /// The number of `<extra_id_N>` tokens that a `tokenizer_config.json` tells.
  private static func sentinels(_ config: JSONObject) -> Int? {
    if let count = config["extra_ids"]?.int { return count }
    for key in ["additional_special_tokens", "extra_special_tokens"] {
      let named = (config[key]?.array ?? []).filter { $0.string?.hasPrefix("<extra_id_") == true }
      if !named.isEmpty { return named.count }
    }
    return nil
  }

  /// Token ids of `text` with the end-of-sequence token, cut to `maxLength` of them in all.
  /// - Throws: `ConfigError` when the library fails, which a sound model file does not make it do.
  public func encode(_ text: String, maxLength: Int = .max) throws(ConfigError) -> [Int] {
    precondition(maxLength > 0, "room for no token")
    var ids: [Int] = []
    for part in split(text) where ids.count < maxLength - 1 {
      switch part {
      case .special(let id): ids.append(id)
      case .text(let bytes):
        do {
          ids += try model.encode(bytes)
        } catch {
          throw ConfigError(file: file, key: "spiece.model", reason: "cannot encode a text: \(error.reason)")
        }
      }
    }
    return ids.prefix(maxLength - 1) + [endOfSequence]
  }

  private enum Part {
    case text([UInt8])
    case special(Int)
  }

  /// The text with its special tokens taken out. All of them start with `<`.
  private func split(_ text: String) -> [Part] {
    let bytes = Array(text.utf8)
    var parts: [Part] = []
    var start = 0
    var position = 0
    while let open = bytes[position...].firstIndex(of: UInt8(ascii: "<")) {
      position = open + 1
      guard let token = specialTokens.first(where: { bytes[open...].starts(with: $0.text) }) else { continue }
      if open > start { parts.append(.text(Array(bytes[start..<open]))) }
      parts.append(.special(token.id))
      position = open + token.text.count
      start = position
    }
    if start < bytes.count { parts.append(.text(Array(bytes[start...]))) }
    return parts
  }
}

/// The library's model behind a tokenizer.
///
/// `@unchecked Sendable`: encoding does not change it, and it is freed with the last reference.
private final class LoadedModel: @unchecked Sendable {
  let handle: OpaquePointer

  private typealias Rejection = SentencePieceModelFile.Rejection

  init(_ bytes: [UInt8]) throws(SentencePieceModelFile.Rejection) {
    var handle: OpaquePointer?
    let reason = Self.reason { handle = csp_load(bytes, bytes.count, $0.baseAddress, $0.count) }
    guard let handle else { throw Rejection(reason: reason) }
    self.handle = handle
  }

  deinit { csp_free(handle) }

  func encode(_ text: [UInt8]) throws(SentencePieceModelFile.Rejection) -> [Int] {
    // A token for every byte is the usual most; only characters with long replacements need a second call.
    var capacity = text.count + 16
    while true {
      var found: Int64 = -1
      var reason = ""
      let ids = [Int32](unsafeUninitializedCapacity: capacity) { buffer, count in
        reason = Self.reason { error in
          text.withUnsafeBytes {
            found = csp_encode(
              handle, $0.baseAddress, $0.count, buffer.baseAddress, buffer.count, error.baseAddress,
              error.count)
          }
        }
        count = max(0, min(Int(found), buffer.count))
      }
      guard found >= 0 else { throw Rejection(reason: reason) }
      if found == ids.count { return ids.map(Int.init) }
      capacity = Int(found)
    }
  }

  /// The text that a call leaves in its error buffer.
  private static func reason(_ call: (UnsafeMutableBufferPointer<CChar>) -> Void) -> String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 512) { buffer in
      buffer.initialize(repeating: 0)
      call(buffer)
      let text = buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
      return text.isEmpty ? "the library gives no reason" : String(decoding: text, as: UTF8.self)
    }
  }
}
