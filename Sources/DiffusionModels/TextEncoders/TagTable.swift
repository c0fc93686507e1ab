public import DiffusionLayers
public import TensorCore

/// A text encoder that knows single words: each is one row of a table, places without a word are row 0
/// (zeros). No order, no mask (contract: text encoder `["tags", "TagTable"]`).
public struct TagTable: Sendable {
  /// Known words in the order of their rows.
  public let vocabulary: [String]
  /// Places of a caption.
  public let maxLength: Int
  let rows: [String: Int]
  let weight: Tensor

  /// Width of the embeddings.
  public var hiddenSize: Int { weight.shape[1] }

  /// Why a prompt cannot be encoded.
  public enum PromptError: Error, Equatable, CustomStringConvertible {
    case unknownWord(String, known: [String])
    case tooManyWords(Int, limit: Int)

    public var description: String { sentence.printable }

    private var sentence: String {
      switch self {
      case .unknownWord(let word, let known):
        "the prompt has the word '\(word.prefix(40))', which this model does not know; it knows: \(known.joined(separator: " "))"
      case .tooManyWords(let count, let limit):
        "the prompt has \(count) words; this model takes at most \(limit)"
      }
    }
  }

  /// - Parameters:
  ///   - config: parsed `config.json` (`vocab_size`, `hidden_size`, `max_length`).
  ///   - vocabulary: parsed `vocab.json`, word to row.
  ///   - weights: cursor with `weight` `[vocab_size, hidden_size]`.
  public init(_ weights: Weights, config: JSONValue, vocabulary: JSONValue, file: String) throws {
    let reader = try ConfigReader(config, file: file)
    let size = try reader.integer("vocab_size", in: 1...1_000_000)
    let hidden = try reader.integer("hidden_size", in: 1...65536)
    maxLength = try reader.integer("max_length", in: 1...4096)
    weight = try weights.tensor("weight", shape: [size, hidden])
    guard let words = vocabulary.object else {
      throw ConfigError(file: file, key: "vocab.json", reason: "must be an object from words to rows")
    }
    var rows: [String: Int] = [:]
    for word in words.keys {
      guard let row = words[word]?.int, row >= 0, row < size else {
        throw ConfigError(file: file, key: word, reason: "must name a row below \(size)")
      }
      rows[word] = row
    }
    self.rows = rows
    self.vocabulary = words.keys.filter { rows[$0] != 0 }
  }

  /// Splits a prompt at spaces and commas, ignoring letter case.
  public static func words(of prompt: String) -> [String] {
    prompt.lowercased().split(whereSeparator: { $0.isWhitespace || $0 == "," }).map(String.init)
  }

  /// Rows of a caption, `maxLength` of them.
  public func rowIndices(of words: [String]) throws(PromptError) -> [Int] {
    guard words.count <= maxLength else { throw .tooManyWords(words.count, limit: maxLength) }
    var indices = [Int](repeating: 0, count: maxLength)
    for (place, word) in words.enumerated() {
      guard let row = rows[word] else { throw .unknownWord(word, known: vocabulary) }
      indices[place] = row
    }
    return indices
  }

  /// Embeddings `[1, maxLength, hidden]` of a caption; no words give the unconditional embedding, all zeros.
  public func encode(_ words: [String]) throws(PromptError) -> Tensor {
    let indices = try rowIndices(of: words)
    let hidden = weight.shape[1]
    let table = weight.array()
    return Tensor(
      indices.flatMap {
        $0 == 0 ? [Float](repeating: 0, count: hidden) : Array(table[$0 * hidden..<($0 + 1) * hidden])
      },
      shape: [1, maxLength, hidden])
  }
}
