import DiffusionLayers

/// Why a folder cannot serve as training data: a sentence that names the file and what to do.
package enum DatasetError: Error, Equatable, CustomStringConvertible {
  case notAFolder(path: String)
  case empty(folder: String)
  case tooManyClips(folder: String, limit: Int)
  case unreadable(file: String, reason: String)
  case unsupported(file: String, reason: String)
  case sameName(first: String, second: String)
  case sizes(first: String, firstSize: String, file: String, size: String)
  case lengths(first: String, firstFrames: Int, file: String, frames: Int)
  case tooShort(file: String, frames: Int, needed: Int)
  case label(file: String, reason: String)
  case unlabelled(file: String, key: String)
  case partner(file: String, reason: String)

  package var description: String { sentence.printable }

  private var sentence: String {
    switch self {
    case .notAFolder(let path): "--data '\(path)' is not a folder; name the folder that holds the clips"
    case .empty(let folder):
      "--data '\(folder)' holds no clip; put .safetensors, .y4m or folders of .png files into it"
    case .tooManyClips(let folder, let limit): "--data '\(folder)' holds more than \(limit) clips; split it"
    case .unreadable(let file, let reason): "the clip '\(file)' cannot be read: \(reason)"
    case .unsupported(let file, let reason): "the clip '\(file)' cannot be used: \(reason)"
    case .sameName(let first, let second):
      "'\(first)' and '\(second)' are two clips of one name, so their labels cannot be told apart; rename one"
    case .sizes(let first, let firstSize, let file, let size):
      "clips must be of one size: '\(first)' is \(firstSize) and '\(file)' is \(size); scale one of them"
    case .lengths(let first, let firstFrames, let file, let frames):
      "clips must be of one length: '\(first)' has \(firstFrames) frames and '\(file)' \(frames); give --frames"
    case .tooShort(let file, let frames, let needed):
      "the clip '\(file)' has \(frames) frames and \(needed) are needed; lower --frames or take it out"
    case .label(let file, let reason): "the labels in '\(file)' are unusable: \(reason)"
    case .partner(let file, let reason): "the clip '\(file)' \(reason)"
    case .unlabelled(let file, let key): "the clip '\(file)' has no label '\(key)', which this recipe needs"
    }
  }
}
