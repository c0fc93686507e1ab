import DiffusionLayers
import DiffusionModels
import DiffusionPipelines
import Glibc

/// A reader of files under test: it takes any bytes, and reads or refuses them.
public struct FuzzTarget: Sendable {
  /// The name of its folder in Tests/Fuzz/corpus.
  public let name: String
  /// Words that the mutator inserts.
  let words: [[UInt8]]
  /// Sets lengths right again after a mutation, so that damage gets behind the first check.
  let repair: @Sendable ([UInt8]) -> [UInt8]
  /// Reads the bytes and everything in them. Throws the reader's error when they are refused, and
  /// `FuzzFailure` when what was read breaks a promise.
  let read: @Sendable ([UInt8]) throws -> Void

  /// Bytes that an input may take beside what its own length allows.
  public let fixedBytes: @Sendable (_ input: [UInt8]) -> Int

  init(
    _ name: String, words: [[UInt8]], repair: @escaping @Sendable ([UInt8]) -> [UInt8] = { $0 },
    fixedBytes: @escaping @Sendable ([UInt8]) -> Int = { _ in FuzzRule.constant },
    read: @escaping @Sendable ([UInt8]) throws -> Void
  ) {
    self.name = name
    self.words = words
    self.repair = repair
    self.fixedBytes = fixedBytes
    self.read = read
  }

  /// Every target. A new reader of files gets its own.
  public static let all: [FuzzTarget] = [
    .safetensors, .index, .config, .scheduler, .lora, .pickle, .tokenizer, .clipTokenizer,
  ]

  /// Runs one input: why it was refused, or nil when it was accepted.
  /// - Throws: `FuzzFailure` when a promise is broken, among them that a refusal is a typed error of one printable
  ///   line.
  public func refusal(of bytes: [UInt8]) throws(FuzzFailure) -> String? {
    do {
      try read(bytes)
      return nil
    } catch let failure as FuzzFailure {
      throw failure
    } catch {
      guard Self.isTyped(error) else { throw FuzzFailure("an error of another type: \(error)") }
      let text = "\(error)"
      guard !text.isEmpty, !text.unicodeScalars.contains(where: { $0.value < 0x20 || $0.value == 0x7f })
      else {
        throw FuzzFailure("an error that is not one printable line: \(text)")
      }
      guard text.utf8.count < 20_000 else { throw FuzzFailure("an error of \(text.utf8.count) bytes") }
      return text
    }
  }

  private static func isTyped(_ error: any Error) -> Bool {
    error is WeightsError || error is JSONError || error is LoRAError || error is ConfigError
      || error is PipelineError || error is PickleError || error is TagTable.PromptError
  }
}

/// A promise that a reader broke.
public struct FuzzFailure: Error, CustomStringConvertible {
  public let description: String

  init(_ description: String) { self.description = description }
}

/// Throws unless a promise holds.
func require(_ condition: Bool, _ promise: @autoclosure () -> String) throws(FuzzFailure) {
  if !condition { throw FuzzFailure(promise()) }
}

/// Words from texts.
func texts(_ items: String...) -> [[UInt8]] { items.map { Array($0.utf8) } }

/// What disturbs JSON readers, wherever it is put.
let jsonWords: [[UInt8]] =
  texts(
    "0", "1", "-1", "1e9", "1.5", "1e999", "18446744073709551615", "9223372036854775807", "4294967296", "[",
    "]", "{",
    "}", "[[[[[[[[", "{\"a\":", "\"", "\\", "\\u0000", "\\ud800", "\\ud83d\\ude00", ",", ":", "null", "true",
    "false",
    " ", "[]", "{}", "\"\"", "\0", "\u{7f}", "é") + [[0xff], [0xc3, 0x28], [0xed, 0xa0, 0x80]]

/// What a reader may take from the heap for an input of n bytes (Tests/Fuzz/README.md).
public enum FuzzRule {
  /// Bytes that any input may take, for what does not depend on it.
  public static let constant = 1 << 20
  /// All allocations of an input together: at most this many times its bytes, and the constant.
  public static let liveFactor = 64
  /// Seconds for one input.
  public static let seconds = 2
}

extension FuzzTarget {
  /// The committed corpus of a target, ordered by name.
  public static func seeds(of target: FuzzTarget) -> [[UInt8]] {
    let folder = "\(Repository.root)/Tests/Fuzz/corpus/\(target.name)"
    let names = (folderEntries(folder) ?? []).filter { !$0.hasPrefix(".") }
    return names.map { Repository.read("Tests/Fuzz/corpus/\(target.name)/\($0)") }
  }
}
