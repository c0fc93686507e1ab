/// A kind of file that people give in place of safetensors, recognised by its first bytes.
public enum ForeignFormat: String, Sendable, CaseIterable {
  case torchZip, torchPickle, zip, gitLFSPointer, html, json, gguf, hdf5, gzip, numpy, image

  /// The format of a file that starts with `head`, if it is one of them. 512 bytes are enough.
  package init?(head: [UInt8]) {
    func starts(_ prefix: [UInt8]) -> Bool { head.starts(with: prefix) }
    func starts(_ text: StaticString, at offset: Int = 0) -> Bool {
      head.dropFirst(offset).starts(with: String(describing: text).utf8)
    }
    if starts([0x50, 0x4b, 0x03, 0x04]) || starts([0x50, 0x4b, 0x05, 0x06]) {
      self = Self.contains(head, "data.pkl") || Self.contains(head, "archive/") ? .torchZip : .zip
    } else if head.count > 1, head[0] == 0x80, (0x02...0x05).contains(head[1]) {
      self = .torchPickle
    } else if starts("version https://git-lfs") {
      self = .gitLFSPointer
    } else if starts("GGUF") {
      self = .gguf
    } else if starts([0x89, 0x48, 0x44, 0x46]) {
      self = .hdf5
    } else if starts([0x1f, 0x8b]) {
      self = .gzip
    } else if starts([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59]) {
      self = .numpy
    } else if starts([0x89, 0x50, 0x4e, 0x47]) || starts([0xff, 0xd8, 0xff]) || starts("ftyp", at: 4) {
      self = .image
    } else {
      let text = head.drop { [0x20, 0x0a, 0x0d, 0x09, 0xef, 0xbb, 0xbf].contains($0) }
      let start = String(decoding: text.prefix(16), as: UTF8.self).lowercased()
      if start.hasPrefix("<!doctype") || start.hasPrefix("<html") || start.hasPrefix("<?xml") {
        self = .html
      } else if start.hasPrefix("{") {
        self = .json
      } else {
        return nil
      }
    }
  }

  /// What it is, as a sentence names it.
  public var name: String {
    switch self {
    case .torchZip, .torchPickle: "a PyTorch pickle file"
    case .zip: "a zip archive"
    case .gitLFSPointer: "a Git LFS pointer"
    case .html: "a web page (HTML)"
    case .json: "a JSON text"
    case .gguf: "a GGUF file"
    case .hdf5: "an HDF5 file"
    case .gzip: "a gzip archive"
    case .numpy: "a NumPy array"
    case .image: "a picture or a video"
    }
  }

  /// What the user can do about it.
  public var remedy: String {
    switch self {
    case .torchZip, .torchPickle:
      "pickle files can run code and are refused: convert it with "
        + "`videolora import FILE --output FILE.safetensors`"
    case .zip, .gzip: "unpack it first"
    case .gitLFSPointer: "fetch the file itself with `git lfs pull`"
    case .html: "the download was a login or error page: download the file again"
    case .json: "give the weights themselves"
    case .gguf, .hdf5, .numpy: "use the safetensors version of the model"
    case .image: "give a model or adapter file"
    }
  }

  private static func contains(_ bytes: [UInt8], _ word: StaticString) -> Bool {
    let word = Array(String(describing: word).utf8)
    guard bytes.count >= word.count else { return false }
    return (0...(bytes.count - word.count)).contains { bytes[$0..<($0 + word.count)].elementsEqual(word) }
  }
}
