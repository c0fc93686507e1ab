/// Why a command failed: a sentence that names the file or option and the remedy.
struct CLIError: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) { self.description = description }
}
