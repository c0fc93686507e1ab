import Glibc

extension ModelDirectory {
  /// Names of the regular files in a folder of the model and below it, such as `tokenizer/spiece.model`, sorted;
  /// hidden ones are left out.
  package func files(below folder: String) -> [String] {
    if let model = BuiltinFiles.name(of: path) {
      let prefix = "\(model)/\(folder)/"
      return BuiltinFiles.paths.filter { $0.hasPrefix(prefix) }.map {
        String($0.dropFirst(model.utf8.count + 1))
      }
    }
    return list(folder, depth: 8).sorted()
  }

  private func list(_ folder: String, depth: Int) -> [String] {
    guard depth > 0, let names = folderEntries(location(of: folder)) else { return [] }
    var found: [String] = []
    for name in names where !name.hasPrefix(".") {
      // Followed, since caches of downloads keep links to the files.
      var status = stat()
      guard stat(location(of: "\(folder)/\(name)"), &status) == 0 else { continue }
      switch status.st_mode & S_IFMT {
      case S_IFREG: found.append("\(folder)/\(name)")
      case S_IFDIR: found += list("\(folder)/\(name)", depth: depth - 1)
      default: break
      }
    }
    return found
  }
}
